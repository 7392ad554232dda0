"""The device mesh, and where batches, parameters and activations live on it.

Examples are split over 'data' and 'fsdp'; parameters, moments and EMA over 'fsdp' wherever a
dimension allows it, and by `TENSOR_RULES` over 'tensor', as in Megatron-LM.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.stack import layer_axes, names

BATCH = ("data", "fsdp")

# (end of a parameter's path, axes of its trailing dimensions): the first that matches holds.
TENSOR_RULES = (
    # DiffuSSM: channels of the state space layer, and the fused width.
    (r"up_kernel", ("tensor",)),
    (r"up_bias", ("tensor",)),
    (r"ssm/\w+_log_dt", ("tensor",)),
    (r"ssm/\w+_(log_decay|frequency)", ("tensor", None)),
    (r"ssm/\w+_c", ("tensor", None, None)),
    (r"ssm/skip", ("tensor",)),
    (r"down_kernel", ("tensor", None)),
    (r"(w1|w2)/(kernel|bias)", ("tensor",)),
    (r"w3/kernel", ("tensor", None)),
)


def make_mesh(
    count: int | None = None,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh ('data', 'fsdp', 'tensor') of the first `count` devices, or of all.

    Args:
      devices: other ones than jax's, as of a slice to compile for.

    Raises:
      UserError: if fsdp x tensor does not divide their number, or that of a TPU slice.
    """
    devices = (devices or jax.devices())[:count]
    check_at_least("mesh.fsdp", fsdp, 1)
    check_at_least("mesh.tensor", tensor, 1)
    arranged = arrange(devices, fsdp, tensor)
    return Mesh(arranged, (*BATCH, "tensor"), axis_types=(AxisType.Auto,) * 3)


def arrange(devices: Sequence[jax.Device], fsdp: int, tensor: int) -> np.ndarray:
    """The devices as (data, fsdp, tensor), neighbours in the last ones.

    Of several TPU slices only 'data' goes from one to another: nothing but sums of gradients takes
    the slow network between them. Elsewhere devices come host by host, and stay in that order.
    """
    is_tpu = devices[0].platform == "tpu"
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if is_tpu else 1
    of_each = len(devices) // slices
    if of_each % (fsdp * tensor):
        raise UserError(
            f"mesh.fsdp is {fsdp} and mesh.tensor {tensor}: their product must divide the number "
            f"of devices{' of each slice' if slices > 1 else ''}, {of_each}"
        )
    shape = (of_each // (fsdp * tensor), fsdp, tensor)
    if slices == 1:
        return create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return create_hybrid_device_mesh(shape, (slices, 1, 1), devices, allow_split_physical_axes=True)


def by_example(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the devices: batches."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def of_state(tree: Any, mesh: Mesh) -> Any:
    """The sharding of every leaf of parameters, or of a state that holds trees like them.

    'fsdp' goes to the largest dimension that it divides and 'tensor' does not have; layers of a
    stack stay together, since a scan takes one after the other.
    """

    def of_leaf(path, leaf) -> NamedSharding:
        axes = _tensor_axes("/".join(names(path)), leaf.shape, mesh)
        layers = layer_axes(path)
        free = [
            (size, i)
            for i, size in enumerate(leaf.shape)
            if i >= layers and axes[i] is None and size % mesh.shape["fsdp"] == 0
        ]
        if free:
            axes[max(free)[1]] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def _tensor_axes(name: str, shape: tuple[int, ...], mesh: Mesh) -> list[str | None]:
    """'tensor' or None for each dimension; a dimension that it does not divide is not split."""
    if mesh.shape["tensor"] == 1:  # all are left to 'fsdp'
        return [None] * len(shape)
    for pattern, trailing in TENSOR_RULES:
        if re.search(rf"(^|/){pattern}$", name):
            axes = [None] * (len(shape) - len(trailing)) + list(trailing)
            sizes = zip(axes, shape, strict=True)
            return [a if a and size % mesh.shape[a] == 0 else None for a, size in sizes]
    return [None] * len(shape)


def within(mesh: Mesh, function: Callable) -> Callable:
    """`function`, with `mesh` known to the `constrain` and `shard_map` inside of it."""

    def with_mesh(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return with_mesh


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks that x (B, ...) be split by example, and its last dimensions over `axes`.

    Outside of `within` it does nothing.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    between = (None,) * (x.ndim - 1 - len(axes))
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH, *between, *axes))


def gathered(param: jax.Array) -> jax.Array:
    """Asks for the whole of a parameter, of any shape, on every device.

    For a table that is indexed by example. Outside of `within` it does nothing.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return param
    return jax.lax.with_sharding_constraint(param, PartitionSpec())


def shard_map(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """`jax.shard_map` over the mesh of `within`; outside of it, `function` itself.

    Every output must be split over every axis of the mesh.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function
    # Checked, the gradient of an input that devices share is summed over them where the function
    # first mixes it with what they do not share: of SSM parameters that is a spectrum.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _shards(mesh: Mesh) -> int:
    """Parts of a batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def round_up(count: int, mesh: Mesh) -> int:
    """The smallest batch of at least `count` that every device gets an equal part of."""
    return -(-count // _shards(mesh)) * _shards(mesh)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises `UserError` unless every device gets an equal part of every micro-batch."""
    parts = _shards(mesh) * accumulate
    if batch_size < 1 or batch_size % parts:
        raise UserError(
            f"batch_size is {batch_size}: it must be a multiple of {parts} "
            f"({_shards(mesh)} devices x {accumulate} accumulated micro-batches)"
        )


def platform() -> str:
    """Return the platform that the traced program is for: 'cpu', 'gpu' or 'tpu'.

    Within a mesh that is the mesh's, whose devices need not be there (`launch.compile`).
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
