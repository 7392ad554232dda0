"""Reverse processes: one pure function per sampler step, one scan for the whole loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax import process
from diffusion_jax.denoiser import Condition
from diffusion_jax.errors import check_at_least, check_choice, check_rate
from diffusion_jax.guidance import NO_GUIDANCE, Denoise, Guidance, guide
from diffusion_jax.schedules import Schedule

SAMPLERS = ("ddpm", "ddpm_small", "ddim", "dpmpp_2m", "heun")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to run the reverse process.

    Attributes:
      schedule: gamma(t) of inference.
      sampler: 'ddpm' (variance 1 - a), 'ddpm_small' (posterior variance), 'ddim', 'dpmpp_2m' or
        'heun', which evaluates the network twice a step, except in the last.
      steps: T.
      guidance: classifier-free guidance.
      time_shift: td, in steps: moves only the next time, to max(1 - (k + 1 + td) / T, 0).
      carry_decay: d of carry = d old + (1 - d) new; 1 never carries anything.

    Raises:
      UserError: on construction, for an unknown name or a number out of range.
    """

    schedule: Schedule
    sampler: str = "ddpm"
    steps: int = 1000
    guidance: Guidance = NO_GUIDANCE
    time_shift: float = 0.0
    carry_decay: float = 0.0

    def __post_init__(self):
        check_choice("sampler", self.sampler, SAMPLERS)
        check_at_least("steps", self.steps, 1)
        check_rate("carry_decay", self.carry_decay)


class Step(NamedTuple):
    """One reverse step: its index and gamma before and after, scalars."""

    index: jax.Array
    gamma: jax.Array
    gamma_next: jax.Array


class Trajectory(NamedTuple):
    """Every step's state, each (T, B, ...): x after it, its x0 estimate, and its carry."""

    x: jax.Array
    x0: jax.Array
    carry: Any


def ddim_step(x0: jax.Array, eps: jax.Array, gamma_next: jax.Array) -> jax.Array:
    """DDIM with eta = 0 (arXiv 2010.02502, eq. 12)."""
    return jnp.sqrt(gamma_next) * x0 + jnp.sqrt(1 - gamma_next) * eps


def ddpm_step(
    x: jax.Array,
    eps: jax.Array,
    gamma: jax.Array,
    gamma_next: jax.Array,
    noise: jax.Array,
    *,
    small_variance: bool,
) -> jax.Array:
    """Ancestral sampling (arXiv 2006.11239, algorithm 2), a = gamma / gamma_next.

    The variance is 1 - a, or the posterior's (1 - gamma_next) / (1 - gamma) (1 - a).
    """
    a = jnp.clip(jnp.exp(jnp.log(gamma) - jnp.log(gamma_next)), 0.0, 1.0)
    mean = (x - (1 - a) / jnp.sqrt(1 - gamma) * eps) / jnp.sqrt(a)
    variance = 1 - a
    if small_variance:
        variance = variance * jnp.exp(jnp.log1p(-gamma_next) - jnp.log1p(-gamma))
    return mean + jnp.sqrt(variance) * noise


def dpmpp_2m_step(
    x: jax.Array, x0: jax.Array, x0_previous: jax.Array, step: Step, gamma_previous: jax.Array
) -> jax.Array:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2); first order in the first and last steps."""
    sigma, sigma_next = jnp.sqrt(1 - step.gamma), jnp.sqrt(1 - step.gamma_next)
    half_log_snr = [_half_log_snr(g) for g in (gamma_previous, step.gamma, step.gamma_next)]
    h_previous, h = half_log_snr[1] - half_log_snr[0], half_log_snr[2] - half_log_snr[1]
    first_or_last = (step.index == 0) | (step.gamma_next > 1 - 1e-6)
    extrapolation = jnp.where(
        first_or_last, 0.0, h / (2 * jnp.where(h_previous > 0, h_previous, 1))
    )
    estimate = x0 + extrapolation * (x0 - x0_previous)
    return sigma_next / sigma * x - jnp.sqrt(step.gamma_next) * jnp.expm1(-h) * estimate


def _half_log_snr(gamma: jax.Array) -> jax.Array:
    """lambda = log(alpha / sigma), finite at gamma = 1."""
    noise = jnp.maximum(1 - gamma, jnp.finfo(gamma.dtype).tiny)
    return (jnp.log(gamma) - jnp.log(noise)) / 2


def heun_step(x: jax.Array, x0: jax.Array, x0_next: jax.Array, step: Step) -> jax.Array:
    """Heun's method with the linear part of the probability flow exact (ETD2RK).

        x' = (sigma'/sigma) x + alpha' ((1 - exp(-h)) x0 + (1 - (1 - exp(-h)) / h) (x0_next - x0))

    In sigma/alpha itself (arXiv 2206.00364, algorithm 1) the first step, from 1e4, would diverge.
    """
    h = _half_log_snr(step.gamma_next) - _half_log_snr(step.gamma)
    sigma, sigma_next = jnp.sqrt(1 - step.gamma), jnp.sqrt(1 - step.gamma_next)
    decay = -jnp.expm1(-h)
    slope = jnp.where(h > 1e-3, 1 - decay / h, h / 2)
    move = decay * x0 + slope * (x0_next - x0)
    return sigma_next / sigma * x + jnp.sqrt(step.gamma_next) * move


def step_times(sampling: Sampling, dtype: jnp.dtype) -> Step:
    """All steps, stacked: t = 1 - k/T to t' = max(1 - (k + 1 + td)/T, 0), k = 0..T-1."""
    k = jnp.arange(sampling.steps)
    now, after = k.astype(dtype), (k + 1).astype(dtype) + sampling.time_shift
    gamma = sampling.schedule(1 - now / sampling.steps)
    gamma_next = sampling.schedule(jnp.maximum(1 - after / sampling.steps, 0.0))
    return Step(k, gamma, gamma_next)


def generate(
    denoise: Denoise,
    x: jax.Array,
    condition: Condition,
    carry: Any,
    noise: Callable[[jax.Array], jax.Array],
    sampling: Sampling,
    prediction: str,
    clip: float | None,
    *,
    trajectory: bool = False,
) -> tuple[jax.Array, Trajectory | None]:
    """Runs the reverse process from x_1 = `x` as one scan that carries the denoiser's latents.

    Args:
      denoise: (x_t, gamma (B,), condition, carry) -> Prediction.
      x: (B, ...) standard normal.
      carry: the denoiser's initial carry.
      noise: step index -> (B, ...) standard normal; called by the DDPM samplers only.
      prediction: what the network's output stands for.
      clip: clips x0 to [-clip, clip] at every step, None does not.
      trajectory: also return every step's state.

    Returns:
      (the last x0 estimate, trajectory or None).
    """
    denoise = guide(denoise, sampling.guidance)
    decay = sampling.carry_decay

    def estimate(x, gamma, carry):
        gammas = jnp.broadcast_to(gamma, x.shape[:1])
        output, new_carry = denoise(x, gammas, condition, carry)
        x0, eps = process.to_x0_eps(
            output.astype(x.dtype), x, gammas, prediction, clip, consistent_eps=True
        )
        return (
            x0,
            eps,
            jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, carry, new_carry),
        )

    def one_step(state, step: Step):
        x, carry, x0_previous, gamma_previous = state
        x0, eps, carry = estimate(x, step.gamma, carry)
        match sampling.sampler:
            case "ddim":
                x = ddim_step(x0, eps, step.gamma_next)
            case "dpmpp_2m":
                x = dpmpp_2m_step(x, x0, x0_previous, step, gamma_previous)
            case "heun":
                x, x0, carry = correct(x, x0, eps, carry, step)
            case "ddpm" | "ddpm_small" as sampler:
                small = sampler == "ddpm_small"
                draw = noise(step.index)
                x = ddpm_step(x, eps, step.gamma, step.gamma_next, draw, small_variance=small)
        state = (x, carry, x0, step.gamma)
        return state, Trajectory(x, x0, carry) if trajectory else None

    def correct(x, x0, eps, carry, step: Step):
        euler = ddim_step(x0, eps, step.gamma_next)

        def second_pass():
            x0_next, _, new_carry = estimate(euler, step.gamma_next, carry)
            return heun_step(x, x0, x0_next, step), x0_next, new_carry

        last = step.index == sampling.steps - 1
        return jax.lax.cond(last, lambda: (euler, x0, carry), second_pass)

    state = (x, carry, jnp.zeros_like(x), jnp.ones((), x.dtype))
    (_, _, x0, _), steps = jax.lax.scan(one_step, state, step_times(sampling, x.dtype))
    return x0, steps
