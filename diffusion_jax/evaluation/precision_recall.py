"""Improved precision and recall (arXiv 1904.06991)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.evaluation.checks import check_enough, check_features

NEIGHBOURS = 3
_DISTANCES = 2**25  # in memory at a time, float32


class PrecisionRecall(NamedTuple):
    """Shares of the samples in the reference's manifold, and of the reference in the samples'."""

    precision: float
    recall: float


def precision_recall(
    samples: np.ndarray, reference: np.ndarray, neighbours: int = NEIGHBOURS
) -> PrecisionRecall:
    """Manifolds are balls about every point, as far as its k-th nearest other one (eqs. 1 and 2).

    On the default device, in float32 matrix products about the reference's mean: near enough for
    shares to differ from float64's by a point at a tie. Distances are held a block of rows at a
    time, the features whole.

    Args:
      samples: (N, d); reference: (M, d).
      neighbours: k; the point itself is none.

    Raises:
      UserError: for fewer than k + 1 of either, other widths, NaN or infinity.
    """
    check_features("samples' features", samples)
    check_features("reference features", reference, samples.shape[1])
    for name, features in (("samples", samples), ("reference", reference)):
        check_enough(f"precision and recall, {name}", len(features), neighbours + 1)
    centre = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    samples, reference = (np.asarray(x, np.float32) - centre for x in (samples, reference))
    sample_radii, reference_radii = (_radii(x, neighbours) for x in (samples, reference))
    points, radii = jnp.asarray(reference), jnp.asarray(reference_radii)
    inside, found = [], np.zeros(len(reference), bool)
    for part in _blocks(len(samples), len(reference)):
        rows, columns = _covered(samples[part], sample_radii[part], points, radii)
        inside.append(rows)
        found |= np.asarray(columns)
    return PrecisionRecall(float(np.concatenate(inside).mean()), float(found.mean()))


def _radii(features: np.ndarray, neighbours: int) -> np.ndarray:
    """(N,) squared distance of each row to its k-th nearest other one."""
    points = jnp.asarray(features)
    return np.concatenate(
        [
            _block_radii(features[part], jnp.int32(part.start), points, neighbours)
            for part in _blocks(len(features), len(features))
        ]
    )


def _blocks(rows: int, columns: int) -> list[slice]:
    """Slices of rows whose distances to all columns fit in memory."""
    size = max(1, _DISTANCES // columns)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


@partial(jax.jit, static_argnames="neighbours")
def _block_radii(rows: jax.Array, first: jax.Array, points: jax.Array, neighbours: int):
    distances, columns = _squared_distances(rows, points), jnp.arange(len(points), dtype=jnp.int32)
    nearest = first + jnp.arange(len(rows), dtype=jnp.int32)  # of each row: itself
    for _ in range(neighbours):
        distances = jnp.where(columns[None, :] == nearest[:, None], jnp.inf, distances)
        nearest = distances.argmin(axis=1).astype(jnp.int32)
    return distances.min(axis=1)  # on a CPU ten times as fast as top_k


@jax.jit
def _covered(rows: jax.Array, row_radii: jax.Array, points: jax.Array, point_radii: jax.Array):
    """Which rows are in a ball about a point, and which points in one about a row."""
    distances = _squared_distances(rows, points)
    return (
        (distances <= point_radii[None, :]).any(axis=1),
        (distances <= row_radii[:, None]).any(axis=0),
    )


def _squared_distances(rows: jax.Array, points: jax.Array) -> jax.Array:
    products = jnp.matmul(rows, points.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(rows).sum(axis=1)[:, None] + jnp.square(points).sum(axis=1)[None, :]
    return jnp.maximum(squares - 2 * products, 0)
