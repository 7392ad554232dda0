"""The device mesh, and where batches and state live on it."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diffusion_jax.errors import UserError


def make_mesh(count: int | None = None) -> Mesh:
    """The first `count` devices, or all, along one 'data' axis."""
    devices = jax.devices()[:count]
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def by_example(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the devices: batches."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device: parameters, optimizer state, EMA."""
    return NamedSharding(mesh, PartitionSpec())


def round_up(count: int, mesh: Mesh) -> int:
    """The smallest batch of at least `count` that every device gets an equal part of."""
    return -(-count // mesh.size) * mesh.size


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises `UserError` unless every device gets an equal part of every micro-batch."""
    parts = mesh.size * accumulate
    if batch_size < 1 or batch_size % parts:
        raise UserError(
            f"batch_size is {batch_size}: it must be a multiple of {parts} "
            f"({mesh.size} devices x {accumulate} accumulated micro-batches)"
        )
