"""DPM-Solver++(2M): second order with one pass of the network a step (arXiv 2211.01095)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.process import Transition
from diffusion_jax.sampling.interface import (
    Estimate,
    Estimator,
    Sampler,
    Visit,
    ends_noise,
    half_log_snr,
)


class History(NamedTuple):
    """The step before.

    Attributes:
      x0: (B, ...) its estimate of x_0.
      half_log_snr: scalar, lambda where it started.
    """

    x0: jax.Array
    half_log_snr: jax.Array


class DPMSolverPP2M(Sampler):
    """Algorithm 2 of the paper: extrapolate x_0 in lambda = log(alpha / sigma).

    The exact solution of the probability flow from time s to t is (proposition 4.1)

        x_t = (sigma_t / sigma_s) x_s + sigma_t * integral of e^lambda x_0(lambda) d lambda

    DDIM takes x_0 as constant over the step; 2M as the line through this estimate and the one
    before it. The first step has none before it, and in the last lambda goes to infinity, where a
    line is no use: both are DDIM's.
    """

    def spacing(self, is_discrete: bool) -> str:
        """Return 'power' on discrete schedules.

        If there are few even steps, the last one, which ends at t = 0, is by far the largest in
        lambda: the extrapolation overshoots and is worse than DDIM.
        """
        return "power" if is_discrete else "even"

    def init(self, x: jax.Array) -> History:
        """Return a history that the first step does not look at."""
        return History(jnp.zeros_like(x), jnp.zeros((), x.dtype))

    def step(
        self, state: History, x: jax.Array, carry: Any, visit: Visit, estimate: Estimator
    ) -> tuple[History, jax.Array, Estimate]:
        """Take one step; see `Sampler.step`."""
        found = estimate(x, visit.step.now, carry)
        x = dpmpp_2m_step(x, found.x0, state, visit.step, ~visit.follows)
        return History(found.x0, half_log_snr(visit.step.now)), x, found


def dpmpp_2m_step(
    x: jax.Array, x0: jax.Array, before: History, step: Transition, is_first: jax.Array
) -> jax.Array:
    """Return x after one step (algorithm 2)."""
    now, after = half_log_snr(step.now), half_log_snr(step.next)
    h_before, h = now - before.half_log_snr, after - now
    # D = (1 + 1 / 2r) x0 - 1 / 2r x0_before, with r = h_before / h.
    extrapolation = jnp.where(
        is_first | ends_noise(step), 0.0, h / (2 * jnp.where(h_before > 0, h_before, 1))
    )
    extrapolated = x0 + extrapolation * (x0 - before.x0)
    ratio = step.next.sigma / step.now.sigma
    return ratio * x - step.next.alpha * jnp.expm1(-h) * extrapolated
