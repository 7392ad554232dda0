"""What every metric asks of the features that it is given."""

import numpy as np

from diffusion_jax.errors import UserError


def check_features(name: str, features: np.ndarray, dim: int | None = None) -> None:
    """Raise `UserError` unless `features` are (N, dim) finite numbers; None takes any width."""
    if features.ndim != 2 or (dim is not None and features.shape[1] != dim):
        wanted = "d" if dim is None else dim
        raise UserError(
            f"{name} have shape {features.shape}, not (N, {wanted}): give all the same network's"
        )
    # A sum is finite only if all its terms are, and needs no array of booleans.
    if not np.isfinite(features.sum(dtype=np.float64)):
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise UserError(
            f"{name}: {len(bad)} of {len(features)} rows have NaN or infinite values, the first "
            f"is row {bad[0]}: look at these images, and at the precision of the network"
        )


def check_enough(name: str, count: int, least: int) -> None:
    """Raise `UserError` for fewer than `least` examples."""
    if count < least:
        raise UserError(f"{name}: {count} examples, and at least {least} are needed: add some")


def check_pair(metric: str, samples: np.ndarray, reference: np.ndarray, least: int) -> None:
    """Raise `UserError` unless both are finite, of one width, and of at least `least` rows."""
    check_features("samples' features", samples)
    check_features("reference features", reference, samples.shape[1])
    check_enough(f"{metric}, samples", len(samples), least)
    check_enough(f"{metric}, reference", len(reference), least)
