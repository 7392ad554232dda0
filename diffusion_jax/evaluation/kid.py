"""Kernel Inception Distance (arXiv 1801.01401) over torch-fidelity's subsets."""

from typing import NamedTuple

import numpy as np

from diffusion_jax.evaluation.checks import check_pair

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # torch-fidelity's


class KID(NamedTuple):
    """Mean and standard deviation over the subsets."""

    mean: float
    std: float


def kid(
    samples: np.ndarray,
    reference: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
) -> KID:
    """Return the squared maximum mean discrepancy with the kernel (x . y / d + 1)^3, unbiased.

    Unlike FID its expectation does not depend on the number of samples. It is computed in float64
    and averaged over random subsets, because it takes time quadratic in their size.

    Args:
      samples: (N, d) features.
      reference: (M, d) features.
      subsets: pairs of `subset_size` samples and references, drawn without replacement in
        torch-fidelity's order: samples first.

    Raises:
      UserError: for fewer than `subset_size` of either, other widths, NaN or infinity.
    """
    check_pair("KID", samples, reference, subset_size)
    random = np.random.RandomState(SEED)  # the legacy generator, as torch-fidelity draws
    distances = []
    for _ in range(subsets):
        x, y = (
            features[random.choice(len(features), subset_size, replace=False)].astype(np.float64)
            for features in (samples, reference)
        )
        distances.append(_discrepancy(x, y))
    return KID(float(np.mean(distances)), float(np.std(distances)))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased MMD^2 of (n, d) and (n, d) (arXiv 1801.01401, eq. 4).

    The diagonals are left out: the kernel of a point with itself biases the means within a set.
    """
    n = len(x)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y)))
    return within / (n * (n - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    kernel = x @ y.T / x.shape[1] + 1
    return kernel * kernel * kernel  # ** 3 takes ten times as long
