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
    """Mean and covariance of vectors that come in batches, of which one is in memory at a time.

    Summing x and x x^T would be simpler, but the covariance E[x x^T] - m m^T then cancels digits
    where the mean is large. Batches are joined about their means instead (Chan, Golub and LeVeque,
    1979, "Updating formulae and a pairwise algorithm for computing sample variances"): how the
    vectors are split into batches changes nothing but the rounding.

    Attributes:
      count: number of vectors so far.
      mean: (d,) float64.
      scatter: (d, d) float64, the sum of (x - mean)(x - mean)^T.
    """

    def __init__(self, dim: int):
        self.count, self.mean, self.scatter = 0, np.zeros(dim), np.zeros((dim, dim))

    def update(self, features: np.ndarray) -> None:
        """Add a batch (B, d) of any float dtype.

        Raises:
          UserError: for another width, NaN or infinity.
        """
        features = np.asarray(features, np.float64)
        check_features("features", features, len(self.mean))
        if not len(features):
            return
        mean, total = features.mean(axis=0), self.count + len(features)
        centred, between = features - mean, mean - self.mean
        self.scatter += centred.T @ centred
        self.scatter += self.count * len(features) / total * np.outer(between, between)
        self.mean += len(features) / total * between
        self.count = total

    def gaussian(self) -> Gaussian:
        """Return the estimate. Its covariance is unbiased: it divides by count - 1, as np.cov.

        Raises:
          UserError: for fewer than 2 vectors.
        """
        check_enough("statistics", self.count, 2)
        return Gaussian(self.mean.copy(), self.scatter / (self.count - 1))


def gaussian_of(features: np.ndarray) -> Gaussian:
    """Return the mean and covariance of vectors (N, d), N >= 2; see `Moments`."""
    moments = Moments(features.shape[1])
    moments.update(features)
    return moments.gaussian()


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), for covariances of any rank.

    The usual scipy.linalg.sqrtm(C1 @ C2) fails, or needs a term eps I, where N < d leaves a
    covariance rank-deficient. With C = F F^T the eigenvalues of C1 C2 are the squared singular
    values of F1^T F2, so the trace of the root is the sum of these singular values. Nothing is
    squared on the way, so that no zero eigenvalue turns into the root of a rounding error.

    Raises:
      UserError: for Gaussians of different width.
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
    """Return F (d, rank) with F F^T = covariance; eigenvalues within rounding of 0 are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
