"""gamma(t): the signal power at time t in [0, 1], 1 at t = 0 (arXiv 2301.10972, section 2.2).

A schedule is such a function, elementwise and in the dtype of t, or a `DiscreteSchedule`.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.diffusion.discrete import DiscreteSchedule, cosine_betas, linear_betas
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.fields import Number
from diffusion_jax.sampling.spacings import MOST_STEPS

Schedule = Callable[[jax.Array], jax.Array] | DiscreteSchedule


# What float32 can take: the smallest and largest value of each parameter.
_RANGES = {
    "start": (-1e4, 1e4),
    "end": (-1e4, 1e4),
    "tau": (1e-2, 1e4),
    ("log", "start"): (1e-6, 1e6),
    ("log", "end"): (1e-6, 1e6),
    ("cosine", "start"): (0, 1),
    ("cosine", "end"): (0, 1),
}
# Sections of a curve whose ends differ by less are stretched rounding errors.
SMALLEST_FALL = 1e-3


def _clip(gamma: jax.Array) -> jax.Array:
    return jnp.clip(gamma, 1e-9, 1.0)


def linear(t: jax.Array) -> jax.Array:
    """1 - t, clipped to [1e-9, 1]."""
    return _clip(1 - t)


def sigmoid(t: jax.Array, start: float, end: float, tau: float) -> jax.Array:
    """A section of the sigmoid from `start` to `end` at temperature `tau`, stretched to [0, 1]."""

    def at(value):
        return 1 / (1 + jnp.exp(-value / tau))

    # Constants are rounded to the dtype of t, as in the reference.
    low, high = (at(jnp.asarray(value, t.dtype)) for value in (start, end))
    return _clip((high - at(t * (end - start) + start)) / (high - low))


def cosine(t: jax.Array, start: float, end: float, tau: float) -> jax.Array:
    """A section of cos(. pi/2)^(2 tau) from `start` to `end`, stretched to [0, 1]."""

    def at(value):
        # The cosine of the rounded pi / 2 is just below 0, where other powers than 2 are NaN.
        return jnp.maximum(jnp.cos(value * math.pi / 2), 0) ** (2 * tau)

    first, last = (at(jnp.asarray(value, t.dtype)) for value in (start, end))
    return _clip((at(t * (end - start) + start) - last) / (first - last))


def cosine_simple(t: jax.Array) -> jax.Array:
    """cos(((t + 0.0002) / 1.00025) pi/2)^2, not clipped: the inference schedule of every FID."""
    return jnp.cos((t + 0.0002) / 1.00025 * math.pi / 2) ** 2


def log(t: jax.Array, start: float, end: float) -> jax.Array:
    """A section of the logarithm from `start` to `end` (either order), stretched to [0, 1].

    Clipped as the other schedules; in float64, which only comparisons with the reference use,
    closer to the reference's 0.
    """
    first, last = math.log(start), math.log(end)
    gamma = (last - jnp.log(t * (end - start) + start)) / (last - first)
    return jnp.clip(gamma, min(1e-9, float(jnp.finfo(t.dtype).eps)), 1.0)


SCHEDULES = {
    "linear": (linear, ()),
    "sigmoid": (sigmoid, ("start", "end", "tau")),
    "cosine": (cosine, ("start", "end", "tau")),
    "cosine_simple": (cosine_simple, ()),
    "log": (log, ("start", "end")),
}
# Parameters that work, of the papers where these have any.
EXAMPLES = {
    "sigmoid": {"start": -3, "end": 3, "tau": 0.9},
    "cosine": {"start": 0.2, "end": 1, "tau": 1},
    "log": {"start": 1e-3, "end": 1},
}
DISCRETE_SCHEDULES = {"linear_betas": linear_betas, "cosine_betas": cosine_betas}


def make_schedule(name: str, **parameters: float) -> Schedule:
    """gamma(t) by name.

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
        return DISCRETE_SCHEDULES[name](rule(f"steps of schedule {name}", parameters["steps"]))
    function, names = SCHEDULES[name]
    chosen = {key: float(parameters[key]) for key in names}
    _check_parameters(name, chosen)
    return functools.partial(function, **chosen)


def _check_parameters(name: str, chosen: dict[str, float]) -> None:
    """Raises `UserError`, with a value that works, unless gamma falls from 1 to 0 over [0, 1]."""
    example = ", ".join(f"{key}={value:g}" for key, value in EXAMPLES.get(name, {}).items())

    for key, value in chosen.items():
        low, high = _RANGES.get((name, key), _RANGES[key])
        if not low <= value <= high:
            raise UserError(
                f"{key} of schedule {name} is {value:g}: give {low:g} to {high:g}, as in {example}"
            )
    if "start" in chosen:
        first, last = (_height(name, chosen[key], chosen) for key in ("start", "end"))
        if not abs(last - first) >= SMALLEST_FALL:
            start, end = chosen["start"], chosen["end"]
            raise UserError(
                f"start and end of schedule {name} are {start:g} and {end:g}: between them the "
                f"curve hardly falls; give others, as in {example}"
            )


def _height(name: str, value: float, chosen: dict[str, float]) -> float:
    """The curve, of which the schedule is a section, in floats that neither overflow nor raise."""
    if name == "log":
        return math.log(value)
    if name == "cosine":
        return max(math.cos(value * math.pi / 2), 0) ** (2 * chosen["tau"])
    return (1 + math.tanh(value / chosen["tau"] / 2)) / 2


def noise_level(schedule: Schedule, t: jax.Array) -> NoiseLevel:
    """The noise level at times t (B,) in [0, 1)."""
    if isinstance(schedule, DiscreteSchedule):
        return schedule.level(schedule.index(t), t.dtype)
    return NoiseLevel(schedule(t))
