"""Denoising diffusion implicit models with eta = 0 (arXiv 2010.02502, eq. 12)."""

from typing import Any

import jax

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.sampling.interface import Estimate, Estimator, Sampler, Visit


class DDIM(Sampler):
    """Euler's method for the probability flow: keep x0 and eps, and move to the next noise level.

    The initial noise alone decides the sample.
    """

    def step(
        self, state: Any, x: jax.Array, carry: Any, visit: Visit, estimate: Estimator
    ) -> tuple[Any, jax.Array, Estimate]:
        """Take one step; see `Sampler.step`."""
        found = estimate(x, visit.step.now, carry)
        return state, ddim_step(found.x0, found.eps, visit.step.next), found


def ddim_step(x0: jax.Array, eps: jax.Array, noise_next: NoiseLevel) -> jax.Array:
    """Return alpha x0 + sigma eps at the next noise level (eq. 12 without its last term)."""
    return noise_next.alpha * x0 + noise_next.sigma * eps
