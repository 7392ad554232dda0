"""Averages of the weights whose width is chosen after training (arXiv 2312.02696, section 3).

An average with a power-function profile weighs the parameters theta(tau), after update tau, by

    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1),   0 < tau <= t            (their equation 1)

and its width is that profile's standard deviation in parts of t, sigma_rel. Two such averages,
stored now and then while training runs, span all others to a good approximation: `weights`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import UserError

WIDEST = 12**-0.5  # sigma_rel of gamma = 0, where all parameters since the start weigh alike


class Profile(NamedTuple):
    """A power-function profile (their equation 1).

    Attributes:
      gamma: its exponent.
      step: t, the number of updates that it reaches over.
    """

    gamma: float
    step: int


def gamma_of(sigma_rel: float) -> float:
    """Return the exponent of a relative width, the one root of at least 0 of

        sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)),

    the variance of tau / t, which has the distribution Beta(gamma + 1, 1).

    Raises:
      UserError: for a width out of (0, 12^-1/2].
    """
    if not 0 < sigma_rel <= WIDEST:
        raise UserError(f"sigma_rel is {sigma_rel}: it must be above 0 and at most {WIDEST:.4f}")
    inverse = sigma_rel**-2.0
    return max(0.0, float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max()))


def update_rate(gamma: float, step: jax.Array) -> jax.Array:
    """Return 1 - beta(t), beta(t) = (1 - 1/t)^(gamma + 1): the weight of the newest parameters.

    Then update tau weighs (tau^(gamma + 1) - (tau - 1)^(gamma + 1)) / t^(gamma + 1), which is the
    integral of the profile from tau - 1 to tau. The parameters before training weigh nothing.

    Args:
      step: t, an integer from 1 on.

    Returns:
      A float32 scalar, exact to its rounding where beta is nearly 1.
    """
    return -jnp.expm1((gamma + 1) * jnp.log1p(-1 / step.astype(jnp.float32)))


def inner_products(a: Sequence[Profile], b: Sequence[Profile]) -> np.ndarray:
    """Integrate p_a(tau) p_b(tau) over tau for all pairs (their appendix C), float64 (A, B).

    For t_a <= t_b it is (gamma_a + 1) (gamma_b + 1) / ((gamma_a + gamma_b + 1) t_b) (t_a /
    t_b)^gamma_b; no power of t itself is taken, which could overflow.
    """
    gamma_a, step_a = np.array(a, np.float64).T[..., None]
    gamma_b, step_b = np.array(b, np.float64).T[:, None]
    first, last = np.minimum(step_a, step_b), np.maximum(step_a, step_b)
    reaching = np.where(step_a <= step_b, gamma_b, gamma_a)  # of the profile that ends later
    scale = (gamma_a + 1) * (gamma_b + 1) / ((gamma_a + gamma_b + 1) * last)
    return scale * (first / last) ** reaching


def weights(stored: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """Return how to add up stored averages to the one nearest to a wanted profile.

    Least squares between the profiles, as functions of tau, with weights that sum to 1, so that
    parameters that never moved are exact. The paper does not constrain the sum; the error of
    parameters that moved little is then several times as large.

    Returns:
      (weights (N,) float64, the norm of what is missed in parts of the wanted profile's).
    """
    gram, target = inner_products(stored, stored), inner_products(stored, [wanted])[:, 0]
    # Profiles scaled to length 1 keep the system well conditioned.
    length = np.sqrt(np.diag(gram))
    gram, target = gram / np.outer(length, length), target / length
    # Minimise |sum_i w_i p_i - p|^2 with sum_i w_i = 1: a Lagrange multiplier borders the matrix.
    border = (1 / length) / np.linalg.norm(1 / length)
    bordered = np.block([[gram, border[:, None]], [border, 0.0]])
    sides = np.append(target, 1 / np.linalg.norm(1 / length))
    solution = np.linalg.lstsq(bordered, sides)[0][:-1]
    square = inner_products([wanted], [wanted]).item()
    missed = square - 2 * solution @ target + solution @ gram @ solution
    return solution / length, float(np.sqrt(max(missed, 0.0) / square))
