"""gamma(t): the signal power at time t in [0, 1], 1 at t = 0 (arXiv 2301.10972, section 2.2).

A schedule is such a function, elementwise and in the dtype of t, or a `Table` of discrete steps.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.errors import check_at_least, check_choice
from diffusion_jax.tables import Table, cosine_betas, linear_betas

Schedule = Callable[[jax.Array], jax.Array] | Table


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
        return jnp.cos(value * math.pi / 2) ** (2 * tau)

    first, last = (at(jnp.asarray(value, t.dtype)) for value in (start, end))
    return _clip((at(t * (end - start) + start) - last) / (first - last))


def cosine_simple(t: jax.Array) -> jax.Array:
    """cos(((t + 0.0002) / 1.00025) pi/2)^2, not clipped: the inference schedule of every FID."""
    return jnp.cos((t + 0.0002) / 1.00025 * math.pi / 2) ** 2


def log(t: jax.Array, start: float, end: float) -> jax.Array:
    """A section of the logarithm from `start` to `end` (either order), clipped to [0, 1]."""
    first, last = math.log(start), math.log(end)
    return jnp.clip((last - jnp.log(t * (end - start) + start)) / (last - first), 0.0, 1.0)


SCHEDULES = {
    "linear": (linear, ()),
    "sigmoid": (sigmoid, ("start", "end", "tau")),
    "cosine": (cosine, ("start", "end", "tau")),
    "cosine_simple": (cosine_simple, ()),
    "log": (log, ("start", "end")),
}
TABLES = {"linear_betas": linear_betas, "cosine_betas": cosine_betas}


def make_schedule(name: str, **parameters: float) -> Schedule:
    """gamma(t) by name.

    Args:
      name: a key of `SCHEDULES`, or of `TABLES`.
      **parameters: start, end, tau, and a table's number of `steps`; those that the schedule does
        not have are ignored, so that one config can switch the name alone.

    Raises:
      UserError: for an unknown name, or a table of so few steps that beta would reach 1.
    """
    check_choice("schedule", name, {**SCHEDULES, **TABLES})
    if name in TABLES:
        check_at_least(f"steps of schedule {name}", parameters["steps"], 21)
        return TABLES[name](parameters["steps"])
    function, names = SCHEDULES[name]
    return functools.partial(function, **{key: float(parameters[key]) for key in names})


def noise_level(schedule: Schedule, t: jax.Array) -> NoiseLevel:
    """The noise level at times t (B,) in [0, 1)."""
    if isinstance(schedule, Table):
        return schedule.level(schedule.index(t), t.dtype)
    return NoiseLevel(schedule(t))
