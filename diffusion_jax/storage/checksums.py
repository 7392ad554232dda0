"""Take checksums of sharded arrays where they live: the same on any mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp


def checksums(tree: Any) -> dict[str, int]:
    """Return {'params/dense/kernel': sum_i (2i + 1) bits_i mod 2^32} for a tree of arrays.

    i counts the items of an array in C order, bits_i is item i read as an unsigned number. The
    factors are odd, so that one flipped bit always shows; sums of integers do not depend on their
    order, nor on how the array is split. Items have at most 4 bytes.
    """
    sums = jax.device_get(_checksums(ocp.tree.to_flat_dict(tree, sep="/")))
    return {name: int(value) for name, value in sums.items()}


@jax.jit
def _checksums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _checksum(array) for name, array in arrays.items()}


def _checksum(array: jax.Array) -> jax.Array:
    unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    place = jnp.zeros(array.shape, jnp.uint32)
    for axis, size in enumerate(array.shape):  # unlike a reshape, it needs no gather
        place = place * size + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
    return jnp.sum((2 * place + 1) * bits)
