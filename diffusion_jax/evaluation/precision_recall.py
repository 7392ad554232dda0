"""Improved precision and recall (arXiv 1904.06991)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.evaluation.checks import check_pair

NEIGHBOURS = 3
_DISTANCES = 2**25  # float32 distances in memory at a time: 128 MiB


class PrecisionRecall(NamedTuple):
    """Share of the samples in the reference's manifold, and of the reference in the samples'."""

    precision: float
    recall: float


def precision_recall(
    samples: np.ndarray, reference: np.ndarray, neighbours: int = NEIGHBOURS
) -> PrecisionRecall:
    """Return how much of each set lies in the manifold of the other (eq. 2).

    The manifold of a set is the union of balls about its points, each of which reaches the point's
    k-th nearest neighbour in the set (eq. 1).

    Runs on the default device. Squared distances are |x|^2 + |y|^2 - 2 x.y in float32, about the
    mean of the reference so that fewer digits cancel: the shares can differ from float64's by a
    point whose distance ties with a radius. The features are in memory whole, the distances a
    block of rows at a time.

    Args:
      samples: (N, d) features.
      reference: (M, d) features.
      neighbours: k; a point is not a neighbour of itself.

    Raises:
      UserError: for fewer than k + 1 of either, other widths, NaN or infinity.
    """
    check_pair("precision and recall", samples, reference, neighbours + 1)
    centre = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    samples, reference = (
        jnp.asarray(np.asarray(x, np.float32) - centre) for x in (samples, reference)
    )
    sample_radii, reference_radii = (
        _radii(x, neighbours, rows=_rows(x)) for x in (samples, reference)
    )
    precision = _covered(samples, reference, reference_radii, rows=_rows(reference))
    recall = _covered(reference, samples, sample_radii, rows=_rows(samples))
    return PrecisionRecall(float(np.asarray(precision).mean()), float(np.asarray(recall).mean()))


def _rows(points: jax.Array) -> int:
    """Return how many rows at a time have distances to all points that fit in memory."""
    return max(1, _DISTANCES // len(points))


@partial(jax.jit, static_argnames=("neighbours", "rows"))
def _radii(points: jax.Array, neighbours: int, rows: int) -> jax.Array:
    """Return the squared distance (N,) of each point to its k-th nearest other point."""

    indices = jnp.arange(len(points))

    def radius(index: jax.Array) -> jax.Array:
        distances, nearest = _squared_distances(points[index], points), index
        # Cross out the point itself, then its k - 1 nearest: the smallest left is the k-th. On a
        # CPU this is ten times as fast as jax.lax.top_k.
        for _ in range(neighbours):
            distances = jnp.where(indices == nearest, jnp.inf, distances)
            nearest = distances.argmin()
        return distances.min()

    return jax.lax.map(radius, indices, batch_size=rows)


@partial(jax.jit, static_argnames="rows")
def _covered(queries: jax.Array, points: jax.Array, radii: jax.Array, rows: int) -> jax.Array:
    """Return which queries (N,) lie in a ball about one of the points (eq. 1)."""

    def is_inside(query: jax.Array) -> jax.Array:
        return (_squared_distances(query, points) <= radii).any()

    return jax.lax.map(is_inside, queries, batch_size=rows)


def _squared_distances(point: jax.Array, points: jax.Array) -> jax.Array:
    products = jnp.matmul(points, point, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(point).sum() + jnp.square(points).sum(axis=1)
    return jnp.maximum(squares - 2 * products, 0)
