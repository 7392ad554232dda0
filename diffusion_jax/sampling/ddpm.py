"""Ancestral sampling: denoising diffusion probabilistic models (arXiv 2006.11239, algorithm 2)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.process import Transition, learned_log_variance
from diffusion_jax.sampling.interface import Estimate, Estimator, Sampler, Visit


@dataclasses.dataclass(frozen=True)
class DDPM(Sampler):
    """Draw x_s ~ N(mean of q(x_s | x_t, x0), variance), s the next time below t.

    Attributes:
      variance: (learned-variance channels, step) -> variance, which broadcasts over x. The
        variances of section 3.2 are the optimal ones for data that are noise ('large') or a single
        point ('small'); the third is the network's own, between them (arXiv 2102.09672, eq. 15).
      needs_variance: see `Sampler`.
    """

    variance: Callable[[jax.Array, Transition], jax.Array]
    needs_variance: bool = False

    adds_noise = True

    def step(
        self, state: Any, x: jax.Array, carry: Any, visit: Visit, estimate: Estimator
    ) -> tuple[Any, jax.Array, Estimate]:
        """Take one step; see `Sampler.step`."""
        found = estimate(x, visit.step.now, carry)
        variance = self.variance(found.variance, visit.step)
        return state, ddpm_step(x, found.eps, visit.step, visit.noise(), variance), found


def ddpm_step(
    x: jax.Array, eps: jax.Array, step: Transition, noise: jax.Array, variance: jax.Array
) -> jax.Array:
    """Return x after one ancestral step (algorithm 2, line 4); `variance` broadcasts over x."""
    # 1 / sqrt(alpha_t) (x_t - beta_t / sqrt(1 - alphabar_t) eps); the paper's alpha_t is
    # gamma_t / gamma_s, and its 1 / sqrt(alpha_t) the ratio of our amplitudes.
    mean = (x - step.beta / step.now.sigma * eps) * (step.next.alpha / step.now.alpha)
    return mean + jnp.sqrt(variance) * noise


def large_variance(channels: jax.Array, step: Transition) -> jax.Array:
    """Return beta_t, the power of the noise that the forward step adds."""
    return step.beta


def small_variance(channels: jax.Array, step: Transition) -> jax.Array:
    """Return the variance of q(x_s | x_t, x_0), beta_t (1 - gamma_s) / (1 - gamma_t) (eq. 7)."""
    log_ratio = jnp.log(step.next.sigma_squared) - jnp.log(step.now.sigma_squared)
    return step.beta * jnp.exp(log_ratio)


def learned_variance(channels: jax.Array, step: Transition) -> jax.Array:
    """Return the network's variance, between those above; 0 in the step that ends all noise."""
    variance = jnp.exp(learned_log_variance(channels, step))
    return jnp.where(step.next.sigma_squared > 0, variance, 0)
