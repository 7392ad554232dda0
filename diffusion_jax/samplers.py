"""Reverse processes: one pure function per sampler step, one scan for the whole loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import process
from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Checked, choice, count, number, rate
from diffusion_jax.guidance import NO_GUIDANCE, Denoise, Guidance, guide
from diffusion_jax.process import Transition, learned_log_variance
from diffusion_jax.schedules import Schedule
from diffusion_jax.tables import SPACINGS, Table

DDPM = ("ddpm", "ddpm_small", "ddpm_learned")
SAMPLERS = (*DDPM, "ddim", "dpmpp_2m", "heun")


@dataclasses.dataclass(frozen=True)
class Sampling(Checked):
    """How to run the reverse process.

    Attributes:
      schedule: gamma(t) of inference, or the table of training.
      sampler: 'ddpm' (variance beta), 'ddpm_small' (that of the posterior), 'ddpm_learned' (the
        network's own), 'ddim', 'dpmpp_2m' or 'heun', which evaluates the network twice a step,
        except in the last.
      steps: T.
      guidance: classifier-free guidance.
      time_shift: td, in steps: moves only the next time, to max(1 - (k + 1 + td) / T, 0).
      carry_decay: d of carry = d old + (1 - d) new; 1 never carries anything.
      spacing: which T steps of a table: 'even' or 'ddim' (see `Table.respaced`).

    Raises:
      UserError: on construction, for an unknown name or a number out of range.
    """

    schedule: Schedule
    sampler: str = choice(SAMPLERS, "ddpm")
    steps: int = count(1000)
    guidance: Guidance = NO_GUIDANCE
    time_shift: float = number(0.0, above=-1)
    carry_decay: float = rate(0.0)
    spacing: str = choice(SPACINGS, "even")

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.schedule, Table):
            self.schedule.respaced(self.steps, self.spacing)
            if self.time_shift:
                raise UserError(f"time_shift is {self.time_shift}: a table has no times between")
        elif self.sampler == "ddpm_learned":
            raise UserError("sampler is 'ddpm_learned': it needs a table, as of 'linear_betas'")


class Trajectory(NamedTuple):
    """Every step's state, each (T, B, ...): x after it, its x0 estimate, and its carry."""

    x: jax.Array
    x0: jax.Array
    carry: Any


def ddim_step(x0: jax.Array, eps: jax.Array, noise_next: NoiseLevel) -> jax.Array:
    """DDIM with eta = 0 (arXiv 2010.02502, eq. 12)."""
    return noise_next.alpha * x0 + noise_next.sigma * eps


def ddpm_step(
    x: jax.Array, eps: jax.Array, step: Transition, noise: jax.Array, variance: jax.Array
) -> jax.Array:
    """Ancestral sampling (arXiv 2006.11239, algorithm 2); `variance` broadcasts over x."""
    mean = (x - step.beta / step.now.sigma * eps) * (step.next.alpha / step.now.alpha)
    return mean + jnp.sqrt(variance) * noise


def small_variance(step: Transition) -> jax.Array:
    """Variance of q(x_next | x_now, x_0): beta (1 - gamma_next) / (1 - gamma)."""
    log_ratio = jnp.log(step.next.sigma_squared) - jnp.log(step.now.sigma_squared)
    return step.beta * jnp.exp(log_ratio)


def learned_variance(spread: jax.Array, step: Transition) -> jax.Array:
    """Between the posterior's and beta, as the network says; 0 in the step that ends all noise."""
    variance = jnp.exp(learned_log_variance(spread, step))
    return jnp.where(step.next.sigma_squared > 0, variance, 0)


def dpmpp_2m_step(
    x: jax.Array,
    x0: jax.Array,
    x0_previous: jax.Array,
    step: Transition,
    previous: NoiseLevel,
    is_first: jax.Array,
) -> jax.Array:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2); first order in the first and last steps."""
    half_log_snr = [_half_log_snr(level) for level in (previous, step.now, step.next)]
    h_previous, h = half_log_snr[1] - half_log_snr[0], half_log_snr[2] - half_log_snr[1]
    first_or_last = is_first | (step.next.gamma > 1 - 1e-6)
    extrapolation = jnp.where(
        first_or_last, 0.0, h / (2 * jnp.where(h_previous > 0, h_previous, 1))
    )
    estimate = x0 + extrapolation * (x0 - x0_previous)
    ratio = step.next.sigma / step.now.sigma
    return ratio * x - step.next.alpha * jnp.expm1(-h) * estimate


def _half_log_snr(noise: NoiseLevel) -> jax.Array:
    """lambda = log(alpha / sigma), finite at gamma = 1."""
    power = jnp.maximum(noise.sigma_squared, jnp.finfo(noise.gamma.dtype).tiny)
    return (jnp.log(noise.gamma) - jnp.log(power)) / 2


def heun_step(x: jax.Array, x0: jax.Array, x0_next: jax.Array, step: Transition) -> jax.Array:
    """Heun's method with the linear part of the probability flow exact (ETD2RK).

        x' = (sigma'/sigma) x + alpha' ((1 - exp(-h)) x0 + (1 - (1 - exp(-h)) / h) (x0_next - x0))

    In sigma/alpha itself (arXiv 2206.00364, algorithm 1) the first step, from 1e4, would diverge.
    """
    h = _half_log_snr(step.next) - _half_log_snr(step.now)
    decay = -jnp.expm1(-h)
    slope = jnp.where(h > 1e-3, 1 - decay / h, h / 2)
    move = decay * x0 + slope * (x0_next - x0)
    return step.next.sigma / step.now.sigma * x + step.next.alpha * move


def transitions(sampling: Sampling, dtype: jnp.dtype) -> Transition:
    """All steps k = 0..T-1: from t = 1 - k/T to max(1 - (k + 1 + td)/T, 0), or a table's."""
    k = jnp.arange(sampling.steps)
    if isinstance(sampling.schedule, Table):
        table = sampling.schedule.respaced(sampling.steps, sampling.spacing)
        return table.transition(sampling.steps - 1 - k, dtype)
    now, after = k.astype(dtype), (k + 1).astype(dtype) + sampling.time_shift
    gamma = sampling.schedule(1 - now / sampling.steps)
    gamma_next = sampling.schedule(jnp.maximum(1 - after / sampling.steps, 0.0))
    return process.transition(NoiseLevel(gamma), NoiseLevel(gamma_next))


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
    order: np.ndarray | None = None,
    edit: Callable[[jax.Array, jax.Array, Transition], jax.Array] | None = None,
) -> tuple[jax.Array, Trajectory | None]:
    """Runs the reverse process from x_1 = `x` as one scan that carries the denoiser's latents.

    Args:
      denoise: (x_t, noise of (B,) values, condition, carry) -> Prediction; see
        `diffusion_jax.objectives.denoise`.
      x: (B, ...) standard normal, or at the noise level of the first step of `order`.
      carry: the denoiser's initial carry.
      noise: number of the visit -> (B, ...) standard normal; called by the DDPM samplers only.
      prediction: what the network's output stands for.
      clip: clips x0 to [-clip, clip] at every step, None does not.
      trajectory: also return every step's state.
      order: (V,) the steps k to visit, one after the other; None for all T, once.
      edit: (x, number of the visit, step) -> x, after each step; see `diffusion_jax.editing`.

    Returns:
      (the last x0 estimate, trajectory or None).
    """
    denoise = guide(denoise, sampling.guidance)
    decay = sampling.carry_decay
    order = np.arange(sampling.steps) if order is None else order

    def estimate(x, level: NoiseLevel, carry):
        """(x0, eps, variance channels or an empty array, the next pass's carry)."""
        noise_B = jax.tree.map(lambda value: jnp.broadcast_to(value, x.shape[:1]), level)
        output, new_carry = denoise(x, noise_B, condition, carry)
        output, spread = jnp.split(output.astype(x.dtype), [x.shape[-1]], axis=-1)
        x0, eps = process.to_x0_eps(output, x, noise_B, prediction, clip, consistent_eps=True)
        carry = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, carry, new_carry)
        return x0, eps, spread, carry

    def one_step(state, inputs):
        x, carry, x0_previous, previous = state
        visit, k, follows, step = inputs
        x0, eps, spread, carry = estimate(x, step.now, carry)
        match sampling.sampler:
            case "ddim":
                x = ddim_step(x0, eps, step.next)
            case "dpmpp_2m":
                x = dpmpp_2m_step(x, x0, x0_previous, step, previous, ~follows)
            case "heun":
                x, x0, carry = correct(x, x0, eps, carry, k, step)
            case "ddpm":
                x = ddpm_step(x, eps, step, noise(visit), step.beta)
            case "ddpm_small":
                x = ddpm_step(x, eps, step, noise(visit), small_variance(step))
            case "ddpm_learned":
                x = ddpm_step(x, eps, step, noise(visit), learned_variance(spread, step))
        if edit is not None:
            x = edit(x, visit, step)
        state = (x, carry, x0, step.now)
        return state, Trajectory(x, x0, carry) if trajectory else None

    def correct(x, x0, eps, carry, k, step: Transition):
        euler = ddim_step(x0, eps, step.next)

        def second_pass():
            x0_next, _, _, new_carry = estimate(euler, step.next, carry)
            return heun_step(x, x0, x0_next, step), x0_next, new_carry

        return jax.lax.cond(k == sampling.steps - 1, lambda: (euler, x0, carry), second_pass)

    steps = jax.tree.map(lambda values: values[order], transitions(sampling, x.dtype))
    first = jax.tree.map(lambda values: values[0], steps.now)
    state = (x, carry, jnp.zeros_like(x), first)
    follows = jnp.asarray(np.append(False, np.diff(order) == 1))  # the step before it
    inputs = (jnp.arange(len(order)), jnp.asarray(order), follows, steps)
    (_, _, x0, _), states = jax.lax.scan(one_step, state, inputs)
    return x0, states
