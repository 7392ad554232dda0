"""Reverse processes: one pure function per sampler step, one scan for the whole loop."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.discrete import DiscreteSchedule
from diffusion_jax.diffusion.process import Transition, learned_log_variance
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Checked, choice, count, number, rate
from diffusion_jax.sampling.guidance import NO_GUIDANCE, Denoise, Guidance, guide
from diffusion_jax.sampling.spacings import MOST_STEPS, SPACINGS, spaced_times, spacing_for

DDPM = ("ddpm", "ddpm_small", "ddpm_learned")
SAMPLERS = (*DDPM, "ddim", "dpmpp_2m", "heun")

# Data lie in [-b, b] with b <= 1 and noise has unit variance, so a network's output is of order 1.
# One this large, as from an absurd guidance weight, would overflow float32 in its next pass.
LARGEST_OUTPUT = 1e6


@dataclasses.dataclass(frozen=True)
class Sampling(Checked):
    """How to run the reverse process.

    Attributes:
      schedule: gamma(t) of inference, or the discrete schedule of training.
      sampler: 'ddpm' (variance beta), 'ddpm_small' (that of the posterior), 'ddpm_learned' (the
        network's own), 'ddim', 'dpmpp_2m' or 'heun', which evaluates the network twice a step,
        except in the last.
      steps: T.
      guidance: classifier-free guidance.
      time_shift: td, in steps: moves only the next time, to max(1 - (k + 1 + td) / T, 0).
      carry_decay: d of carry = d old + (1 - d) new; 1 never carries anything.
      spacing: which T noise levels: one of `diffusion_jax.sampling.spacings.SPACINGS`; 'auto' takes
        the one that suits the sampler.

    Raises:
      UserError: on construction, for an unknown name or a number out of range.
    """

    schedule: Schedule
    sampler: str = choice(SAMPLERS, "ddpm")
    steps: int = count(1000, at_most=MOST_STEPS)
    guidance: Guidance = NO_GUIDANCE
    time_shift: float = number(0.0, above=-1)
    carry_decay: float = rate(0.0)
    spacing: str = choice(SPACINGS, "auto")

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.schedule, DiscreteSchedule):
            self.respaced()
            if self.time_shift:
                raise UserError(
                    f"time_shift is {self.time_shift}: a discrete schedule has no times between"
                )
            return
        if self.sampler == "ddpm_learned":
            raise UserError(
                "sampler is 'ddpm_learned': it needs a discrete schedule, as 'linear_betas'"
            )
        if self.spacing == "ddim":
            raise UserError("spacing is 'ddim': it needs a discrete schedule, as 'linear_betas'")

    @property
    def chosen_spacing(self) -> str:
        """The spacing that is used: 'auto' is resolved."""
        if self.spacing != "auto":
            return self.spacing
        return spacing_for(self.sampler, isinstance(self.schedule, DiscreteSchedule))

    def respaced(self) -> DiscreteSchedule:
        """Return the discrete schedule of the steps that are taken."""
        return self.schedule.respaced(self.steps, self.chosen_spacing)

    def times(self) -> np.ndarray:
        """Return the time in (0, 1] that each step starts from, (T,) float, decreasing."""
        if isinstance(self.schedule, DiscreteSchedule):
            return (self.respaced().timesteps[::-1] + 1) / len(self.schedule)
        positions = 1 - jnp.arange(self.steps) / self.steps
        return np.asarray(self.at(positions))

    def at(self, positions: jax.Array) -> jax.Array:
        """Turn positions k / T of a continuous schedule into times; see `spaced_times`."""
        return spaced_times(positions, self.steps, self.chosen_spacing, self.schedule)


class Trajectory(NamedTuple):
    """Every step's state, each (T, B, ...).

    Attributes:
      is_sound: (T, B) bool, whether all numbers of the step were finite, and the network's output
        at most `LARGEST_OUTPUT`.
      x: x after the step; None unless asked for, as x0 and carry.
      x0: the estimate of x0.
      carry: the denoiser's carry.
    """

    is_sound: jax.Array
    x: jax.Array | None = None
    x0: jax.Array | None = None
    carry: Any = None

    def sound_steps(self) -> jax.Array:
        """Return how many steps of each sample, from the first on, were sound: (B,) int32."""
        return jnp.sum(jnp.cumprod(self.is_sound.astype(jnp.int32), axis=0), axis=0)


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
    first_or_last = is_first | _ends_noise(step)
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


def _ends_noise(step: Transition) -> jax.Array:
    """Whether a step leads to no noise, up to the rounding of gamma in float32."""
    return step.next.gamma > 1 - 1e-6


def heun_step(x: jax.Array, x0: jax.Array, x0_next: jax.Array, step: Transition) -> jax.Array:
    """Heun's method in sigma / alpha (arXiv 2206.00364, algorithm 1), made stable at any noise.

    With h the step in log(alpha / sigma), the trapezoid of algorithm 1 is

        x' = (sigma'/sigma) x + alpha' (1 - exp(-h)) (x0 + w (x0_next - x0)),  w = exp(h) / 2

    In a long step w has no bound: the first, from gamma = 1e-9, would diverge. So it is at most
    1 + 2 gamma': 1, which takes x0_next for the whole step, in pure noise, and 3 next to the data.
    With this bound the error to the exact maps of mixtures of Gaussians was lowest.
    """
    h = _half_log_snr(step.next) - _half_log_snr(step.now)
    most = 1 + 2 * step.next.gamma
    weight = jnp.minimum(jnp.exp(jnp.minimum(h, math.log(6))) / 2, most)
    move = -jnp.expm1(-h) * (x0 + weight * (x0_next - x0))
    return step.next.sigma / step.now.sigma * x + step.next.alpha * move


def transitions(sampling: Sampling, dtype: jnp.dtype) -> Transition:
    """All steps k = 0..T-1: from position 1 - k/T to max(1 - (k + 1 + td)/T, 0), or discrete."""
    k = jnp.arange(sampling.steps)
    if isinstance(sampling.schedule, DiscreteSchedule):
        return sampling.respaced().transition(sampling.steps - 1 - k, dtype)
    now, after = k.astype(dtype), (k + 1).astype(dtype) + sampling.time_shift
    gamma = sampling.schedule(sampling.at(1 - now / sampling.steps))
    gamma_next = sampling.schedule(sampling.at(jnp.maximum(1 - after / sampling.steps, 0.0)))
    # No step starts from gamma = 1, which flat schedules round to: eps would be 0 / 0 there.
    gamma = jnp.minimum(gamma, 1 - jnp.finfo(dtype).epsneg)
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
) -> tuple[jax.Array, Trajectory]:
    """Runs the reverse process from x_1 = `x` as one scan that carries the denoiser's latents.

    Args:
      denoise: (x_t, noise of (B,) values, condition, carry) -> Prediction; see
        `diffusion_jax.diffusion.objectives.denoise`.
      x: (B, ...) standard normal, or at the noise level of the first step of `order`.
      carry: the denoiser's initial carry.
      noise: number of the visit -> (B, ...) standard normal; called by the DDPM samplers only.
      prediction: what the network's output stands for.
      clip: clips x0 to [-clip, clip] at every step, None does not.
      trajectory: return x, x0 and carry of every step, not only whether it was sound.
      order: (V,) the steps k to visit, one after the other; None for all T, once.
      edit: (x, number of the visit, step) -> x, after each step; see
        `diffusion_jax.sampling.editing`.

    Returns:
      (the last x0 estimate, trajectory).
    """
    denoise = guide(denoise, sampling.guidance)
    decay = sampling.carry_decay
    order = np.arange(sampling.steps) if order is None else order

    def estimate(x, level: NoiseLevel, carry):
        """(x0, eps, variance channels or an empty array, the next pass's carry, soundness)."""
        noise_B = jax.tree.map(lambda value: jnp.broadcast_to(value, x.shape[:1]), level)
        output, new_carry = denoise(x, noise_B, condition, carry)
        is_sound = process.everywhere(jnp.abs(output) <= LARGEST_OUTPUT)  # before clipping hides it
        output, spread = jnp.split(output.astype(x.dtype), [x.shape[-1]], axis=-1)
        x0, eps = process.to_x0_eps(output, x, noise_B, prediction, clip, consistent_eps=True)
        carry = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, carry, new_carry)
        return x0, eps, spread, carry, is_sound

    def one_step(state, inputs):
        x, carry, x0_previous, previous = state
        visit, k, follows, step = inputs
        x0, eps, spread, carry, is_sound = estimate(x, step.now, carry)
        match sampling.sampler:
            case "ddim":
                x = ddim_step(x0, eps, step.next)
            case "dpmpp_2m":
                x = dpmpp_2m_step(x, x0, x0_previous, step, previous, ~follows)
            case "heun":
                x, x0, carry, is_sound = correct(x, x0, eps, carry, is_sound, k, step)
            case "ddpm":
                x = ddpm_step(x, eps, step, noise(visit), step.beta)
            case "ddpm_small":
                x = ddpm_step(x, eps, step, noise(visit), small_variance(step))
            case "ddpm_learned":
                x = ddpm_step(x, eps, step, noise(visit), learned_variance(spread, step))
        if edit is not None:
            x = edit(x, visit, step)
        is_sound &= process.everywhere(jnp.isfinite(x) & jnp.isfinite(x0))
        shown = (x, x0, carry) if trajectory else ()
        return (x, carry, x0, step.now), Trajectory(is_sound, *shown)

    def correct(x, x0, eps, carry, is_sound, k, step: Transition):
        euler = ddim_step(x0, eps, step.next)

        def second_pass():
            x0_next, _, _, new_carry, is_next_sound = estimate(euler, step.next, carry)
            x_next = heun_step(x, x0, x0_next, step)
            return x_next, x0_next, new_carry, is_sound & is_next_sound

        is_last = (k == sampling.steps - 1) | _ends_noise(step)
        return jax.lax.cond(is_last, lambda: (euler, x0, carry, is_sound), second_pass)

    steps = jax.tree.map(lambda values: values[order], transitions(sampling, x.dtype))
    first = jax.tree.map(lambda values: values[0], steps.now)
    state = (x, carry, jnp.zeros_like(x), first)
    follows = jnp.asarray(np.append(False, np.diff(order) == 1))  # the step before it
    inputs = (jnp.arange(len(order)), jnp.asarray(order), follows, steps)
    (_, _, x0, _), states = jax.lax.scan(one_step, state, inputs)
    return x0, states
