"""The device mesh, and where batches, parameters and activations live on it.

Examples are split over 'data' and 'fsdp'; parameters, moments and EMA over 'tensor' by the table in
`diffusion_jax.parallel.axes`, and over 'fsdp' wherever a dimension is left that it divides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.parallel.axes import LAYERS, RULES, is_declared, map_declared

BATCH = ("data", "fsdp")


def make_mesh(
    count: int | None = None,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Return a mesh ('data', 'fsdp', 'tensor') of the first `count` devices, or of all.

    Args:
      devices: instead of those that JAX finds, such as those of a slice to compile for.

    Raises:
      UserError: if fsdp x tensor does not divide their number, or that of a TPU slice.
    """
    devices = (devices or jax.devices())[:count]
    check_at_least("mesh.fsdp", fsdp, 1)
    check_at_least("mesh.tensor", tensor, 1)
    arranged = arrange(devices, fsdp, tensor)
    return Mesh(arranged, (*BATCH, "tensor"), axis_types=(AxisType.Auto,) * 3)


def arrange(devices: Sequence[jax.Device], fsdp: int, tensor: int) -> np.ndarray:
    """Arrange devices as (data, fsdp, tensor), so that neighbours differ in the last axes.

    'tensor' sends activations in every layer, 'fsdp' parameters, 'data' sums of gradients once a
    step. So only 'data' crosses the slow network between TPU slices. Other devices come host by
    host, and stay in that order.
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
    """Return the sharding of batches: the leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def of_state(tree: Any, mesh: Mesh, declared: Any) -> Any:
    """Return the sharding of every leaf of parameters, or of a state that holds trees like them.

    Args:
      tree: arrays or their shapes. What lies outside of trees like the parameters, as the counts
        of an optimizer, has no declaration.
      declared: see `diffusion_jax.parallel.axes.declarations`.
    """
    like_params = jax.tree.structure(declared, is_leaf=is_declared)

    def is_params(node: Any) -> bool:
        return jax.tree.structure(node) == like_params  # type: ignore[operator]  # stub without ==

    def of_node(node: Any) -> Any:
        if is_params(node):
            return map_declared(
                lambda box, leaf: _of_leaf(leaf.shape, box.names, mesh), declared, node
            )
        return _of_leaf(node.shape, (None,) * len(node.shape), mesh)

    return jax.tree.map(of_node, tree, is_leaf=is_params)


def _of_leaf(shape: tuple[int, ...], names: tuple[str | None, ...], mesh: Mesh) -> NamedSharding:
    """Return a parameter's sharding by the names of its axes.

    'tensor' takes the axes that the table gives it, if it divides them. 'fsdp' takes the largest
    dimension left that it divides: ZeRO-3, parameters gathered where a layer needs them. An axis
    of layers is left whole, since a scan takes one layer after the other.
    """

    def split(name: str | None, size: int) -> str | None:
        axis = RULES.get(name)
        return axis if axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None

    axes = [split(name, size) for name, size in zip(names, shape, strict=True)]
    free = [
        (size, i)
        for i, (name, size) in enumerate(zip(names, shape, strict=True))
        if name != LAYERS and axes[i] is None and size % mesh.shape["fsdp"] == 0
    ]
    if free:
        axes[max(free)[1]] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*axes))


def within(mesh: Mesh, function: Callable) -> Callable:
    """Return `function` with `mesh` known to the `constrain` and `shard_map` inside of it."""

    def with_mesh(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return with_mesh


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Ask XLA to split x (B, ...) by example, and its last dimensions over `axes`.

    Left to itself, XLA may prefer to gather activations where parameters are split. Outside of
    `within` this does nothing.
    """
    between = (None,) * (x.ndim - 1 - len(axes))
    return _constrained(x, PartitionSpec(BATCH, *between, *axes))


def gathered(param: jax.Array) -> jax.Array:
    """Ask XLA for the whole of a parameter on every device, as a table indexed by example.

    Outside of `within` this does nothing.
    """
    return _constrained(param, PartitionSpec())


def _constrained(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    is_outside = jax.sharding.get_abstract_mesh().empty
    return x if is_outside else jax.lax.with_sharding_constraint(x, spec)


def shard_map(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """Return `jax.shard_map` of `function` over the mesh of `within`; outside of it, `function`.

    Every output must be split over every axis of the mesh.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function
    # With check_vma the gradient of an input that devices share would be summed over them where the
    # function first mixes it with what they do not share: a whole spectrum for SSM parameters.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _shards(mesh: Mesh) -> int:
    """Return the number of parts of a batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def round_up(count: int, mesh: Mesh) -> int:
    """Return the smallest batch of at least `count` of which every device gets an equal part."""
    return -(-count // _shards(mesh)) * _shards(mesh)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raise `UserError` unless every device gets an equal part of every micro-batch."""
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
