"""Frechet distance of Gaussians (arXiv 1706.08500, eq. 6), and their streaming estimate."""

from typing import NamedTuple

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.checks import check_enough, check_features


class Gaussian(NamedTuple):
    """Mean (d,) and covariance (d, d), float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Moments:
    """Mean and covariance of vectors that come in batches; holds no more than a batch of them.

    Batches are joined about their means (Chan, Golub, LeVeque 1979), so that a large mean does not
    cancel the digits of a small covariance. How the vectors are split changes the rounding alone.

    Attributes:
      count: vectors so far.
      mean: (d,) float64.
      scatter: (d, d) float64, the sum of (x - mean)(x - mean)^T.
    """

    def __init__(self, dim: int):
        self.count, self.mean, self.scatter = 0, np.zeros(dim), np.zeros((dim, dim))

    def update(self, features: np.ndarray) -> None:
        """Adds a batch (B, d) of any float dtype.

        Raises:
          UserError: for another width, NaN or infinity.
        """
        features = np.asarray(features, np.float64)
        check_features("features", features, len(self.mean))
        if len(features):
            mean = features.mean(axis=0)
            rows = np.vstack([features - mean, self._join(len(features), mean)])
            self.scatter += rows.T @ rows

    def merge(self, other: "Moments") -> None:
        """Adds all that `other` has seen.

        Raises:
          UserError: for another width.
        """
        check_features("features", other.mean[None], len(self.mean))
        if other.count:
            row = self._join(other.count, other.mean)
            self.scatter += other.scatter + np.outer(row, row)

    def _join(self, count: int, mean: np.ndarray) -> np.ndarray:
        """Moves count and mean; returns the row whose outer product the scatter grows by."""
        between, total = mean - self.mean, self.count + count
        row = np.sqrt(self.count * count / total) * between
        self.mean += count / total * between
        self.count = total
        return row

    def gaussian(self) -> Gaussian:
        """The estimate, its covariance divided by count - 1.

        Raises:
          UserError: for fewer than 2 vectors.
        """
        check_enough("statistics", self.count, 2)
        return Gaussian(self.mean.copy(), self.scatter / (self.count - 1))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), of any ranks.

    With C = F F^T the trace of the root is the sum of the singular values of F1^T F2. They are
    found without squaring, so none of the many zeros of a rank-deficient pair turns into the root
    of a rounding error.

    Raises:
      UserError: for another width.
    """
    if first.mean.shape != second.mean.shape:
        raise UserError(
            f"features of {len(first.mean)} and of {len(second.mean)} dimensions cannot be "
            "compared: give both of the same network"
        )
    between = first.mean - second.mean
    product = _factor(first.covariance).T @ _factor(second.covariance)
    root = np.linalg.svd(product, compute_uv=False).sum() if product.size else 0.0
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return max(float(between @ between + traces - 2 * root), 0.0)  # of equals: rounding


def _factor(covariance: np.ndarray) -> np.ndarray:
    """(d, rank) F with F F^T = covariance; eigenvalues within rounding of zero are zero."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
