"""gamma(t): the signal power at time t in [0, 1], 1 at t = 0 (arXiv 2301.10972, section 2.2).

A schedule is such a function, elementwise and in the dtype of t, or a `DiscreteSchedule`. Those
with `start` and `end` are a section of a curve, stretched so that gamma falls from 1 to 0:

    gamma(t) = (curve(end) - curve(start + t (end - start))) / (curve(end) - curve(start))
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.diffusion.discrete import DiscreteSchedule, cosine_betas, linear_betas
from diffusion_jax.diffusion.spacings import MOST_STEPS
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.fields import Number

Schedule = Callable[[jax.Array], jax.Array] | DiscreteSchedule

# Sections of a curve whose ends differ by less are stretched rounding errors.
SMALLEST_FALL = 1e-3


def _clip(gamma: jax.Array) -> jax.Array:
    # At gamma = 0 the estimate x0 = (x_t - sigma eps) / alpha would divide by 0.
    return jnp.clip(gamma, 1e-9, 1.0)


def linear(t: jax.Array) -> jax.Array:
    """Return 1 - t, clipped to [1e-9, 1]."""
    return _clip(1 - t)


def sigmoid(t: jax.Array, start: float, end: float, tau: float) -> jax.Array:
    """Return a section of the sigmoid at temperature `tau`; the paper's: -3 to 3, tau=0.9."""

    def at(value):
        return 1 / (1 + jnp.exp(-value / tau))

    # Constants are rounded to the dtype of t, as in the reference.
    low, high = (at(jnp.asarray(value, t.dtype)) for value in (start, end))
    return _clip((high - at(t * (end - start) + start)) / (high - low))


def cosine(t: jax.Array, start: float, end: float, tau: float) -> jax.Array:
    """Return a section of cos(. pi/2)^(2 tau); the paper's: 0.2 to 1, tau=1."""

    def at(value):
        # The cosine of the rounded pi / 2 is just below 0, where other powers than 2 are NaN.
        return jnp.maximum(jnp.cos(value * math.pi / 2), 0) ** (2 * tau)

    first, last = (at(jnp.asarray(value, t.dtype)) for value in (start, end))
    return _clip((at(t * (end - start) + start) - last) / (first - last))


def cosine_simple(t: jax.Array) -> jax.Array:
    """Return cos(((t + 0.0002) / 1.00025) pi/2)^2, not clipped: RIN's schedule of inference."""
    return jnp.cos((t + 0.0002) / 1.00025 * math.pi / 2) ** 2


def log(t: jax.Array, start: float, end: float) -> jax.Array:
    """Return a section of the logarithm from `start` to `end`, in either order.

    Clipped as the other schedules; in float64, which only comparisons with the reference use,
    closer to the reference's 0.
    """
    first, last = math.log(start), math.log(end)
    gamma = (last - jnp.log(t * (end - start) + start)) / (last - first)
    return jnp.clip(gamma, min(1e-9, float(jnp.finfo(t.dtype).eps)), 1.0)


class Family(NamedTuple):
    """Schedules that differ in their parameters.

    Attributes:
      gamma: (t, **parameters) -> gamma.
      ranges: the parameters, with the smallest and largest value that float32 can take.
      example: parameters that work; the papers' where these have any.
      curve: (value, tau) -> the curve that gamma is a section of, in floats that neither overflow
        nor raise; None where nothing can go wrong.
    """

    gamma: Callable[..., jax.Array]
    ranges: Mapping[str, tuple[float, float]] = {}
    example: Mapping[str, float] = {}
    curve: Callable[[float, float], float] | None = None


_WIDE, _TAU, _POSITIVE, _UNIT = (-1e4, 1e4), (1e-2, 1e4), (1e-6, 1e6), (0, 1)
SCHEDULES = {
    "linear": Family(linear),
    "sigmoid": Family(
        sigmoid,
        {"start": _WIDE, "end": _WIDE, "tau": _TAU},
        {"start": -3, "end": 3, "tau": 0.9},
        lambda value, tau: (1 + math.tanh(value / tau / 2)) / 2,
    ),
    "cosine": Family(
        cosine,
        {"start": _UNIT, "end": _UNIT, "tau": _TAU},
        {"start": 0.2, "end": 1, "tau": 1},
        lambda value, tau: max(math.cos(value * math.pi / 2), 0) ** (2 * tau),
    ),
    "cosine_simple": Family(cosine_simple),
    "log": Family(
        log,
        {"start": _POSITIVE, "end": _POSITIVE},
        {"start": 1e-3, "end": 1},
        lambda value, tau: math.log(value),
    ),
}
DISCRETE_SCHEDULES = {"linear_betas": linear_betas, "cosine_betas": cosine_betas}


def make_schedule(name: str, **parameters: float) -> Schedule:
    """Return gamma(t) by name.

    Args:
      name: a key of `SCHEDULES`, or of `DISCRETE_SCHEDULES`.
      **parameters: start, end, tau, and a discrete schedule's number of `steps`; those that the
        schedule does not have are ignored, so that one config can switch the name alone.

    Raises:
      UserError: for an unknown name, parameters that do not make gamma fall from 1 to 0, or a
        discrete schedule of so few steps that beta would reach 1.
    """
    check_choice("schedule", name, {**SCHEDULES, **DISCRETE_SCHEDULES})
    if name in DISCRETE_SCHEDULES:
        rule = Number(integral=True, at_least=21, at_most=MOST_STEPS)
        steps = rule(f"steps of schedule {name}", parameters["steps"])
        return DISCRETE_SCHEDULES[name](int(steps))
    family = SCHEDULES[name]
    chosen = {key: float(parameters[key]) for key in family.ranges}
    example = ", ".join(f"{key}={value:g}" for key, value in family.example.items())
    for key, (low, high) in family.ranges.items():
        if not low <= chosen[key] <= high:
            raise UserError(
                f"{key} of schedule {name} is {chosen[key]:g}: give {low:g} to {high:g}, as in "
                f"{example}"
            )
    if family.curve is not None:
        first, last = (family.curve(chosen[key], chosen.get("tau", 1)) for key in ("start", "end"))
        if not abs(last - first) >= SMALLEST_FALL:
            start, end = chosen["start"], chosen["end"]
            raise UserError(
                f"start and end of schedule {name} are {start:g} and {end:g}: between them the "
                f"curve hardly falls; give others, as in {example}"
            )
    return functools.partial(family.gamma, **chosen)


def noise_level(schedule: Schedule, t: jax.Array) -> NoiseLevel:
    """Return the noise level at times t (B,) in [0, 1)."""
    if isinstance(schedule, DiscreteSchedule):
        return schedule.level(schedule.index(t), t.dtype)
    return NoiseLevel(schedule(t))
