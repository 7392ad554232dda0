"""Which noise levels a sampler visits: steps of a discrete schedule, or times of a continuous one.

even       equal distances in time
ddim       an integer stride from the first discrete step, as in the reference code of DiT
power      the k-th step from the end at a time proportional to (k - 1/2)^p: finer near the data
log_snr    equal distances in log(alpha / sigma) (arXiv 2206.00927, section 3.3)
karras     equal distances in (sigma / alpha)^(1 / 7) (arXiv 2206.00364, eq. 5)
auto       the one of these that suits the sampler
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import UserError

SPACINGS = ("auto", "even", "ddim", "power", "log_snr", "karras")

MOST_STEPS = 10**6  # of a discrete schedule or a sampler: all their noise levels are in memory

RHO = 7.0
# p of 'power', on a discrete schedule and in continuous time. With these DPM-Solver++(2M) was
# nearest to the exact maps of mixtures of Gaussians, and never farther than DDIM where a mode is
# narrow: the last step has to begin where the noise is smaller than that.
DISCRETE_POWER, TIME_POWER = 2.5, 1.5
# Where log_snr and karras begin and end, as sigma / alpha. Beyond the first all that a network can
# see is noise; the second is about one grey level of 8-bit images in [-1, 1].
MOST_NOISE, LEAST_NOISE = 160.0, 0.01
# A sampler starts from pure noise, so hardly any signal may be left at the first step.
MOST_SIGNAL = 0.01


def kept_steps(gamma: np.ndarray, steps: int, spacing: str) -> np.ndarray:
    """Choose steps of a discrete schedule.

    Args:
      gamma: (S,) float64, the signal power of the discrete schedule's steps, decreasing.
      steps: how many to keep, 1 to S.
      spacing: one of `SPACINGS` other than 'auto'.

    Returns:
      (steps,) int, increasing.

    Raises:
      UserError: if 'ddim' cannot give so many steps, or would begin where signal is left.
    """
    total = len(gamma)
    if spacing == "ddim":
        return _strided(gamma, steps)
    if steps == 1:
        return np.array([total - 1])
    if spacing == "even":
        # As the reference: strides are added up, then rounded; the sum's own error counts.
        stride = (total - 1) / (steps - 1)
        return np.rint(np.cumsum([0.0] + [stride] * (steps - 1))).astype(int)
    if spacing == "power":
        return _distinct(
            (total - 1) * _powers(np.arange(1, steps + 1), steps, DISCRETE_POWER), total
        )
    log_noise = (np.log1p(-gamma) - np.log(gamma)) / 2
    wanted = _log_noise_levels(np.linspace(0, 1, steps), spacing, log_noise[0], log_noise[-1])
    return _distinct(np.interp(wanted, log_noise, np.arange(total)), total)


def spaced_times(
    positions: jax.Array, steps: int, spacing: str, gamma: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Turn equally spaced positions into times of a continuous schedule.

    Args:
      positions: of any shape; 1 is the first of `steps` steps, 1 / steps the last, 0 no noise.
      spacing: one of `SPACINGS` other than 'auto' and 'ddim'.
      gamma: the schedule.

    Returns:
      Times in [0, 1], shaped like `positions`.
    """
    if spacing == "even":
        return positions
    if spacing == "power":
        return _powers(jnp.maximum(positions * steps, 0.5), steps, TIME_POWER)

    def log_noise(t):
        power = gamma(t)
        return (jnp.log1p(-power) - jnp.log(power)) / 2

    most = log_noise(jnp.ones((), positions.dtype))
    fraction = (positions * steps - 1) / max(steps - 1, 1)
    wanted = _log_noise_levels(jnp.clip(fraction, 0, 1), spacing, math.log(LEAST_NOISE), most)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        is_noisier = log_noise(middle) > wanted
        return jnp.where(is_noisier, low, middle), jnp.where(is_noisier, middle, high)

    # gamma decreases, so bisection finds the time of a level; float32 times have 24 bits.
    bounds = jnp.zeros_like(positions), jnp.ones_like(positions)
    _, times = jax.lax.fori_loop(0, 24, halve, bounds)
    times = jnp.where(positions * steps < 0.5, 0, times)
    return jnp.where(positions >= 1, 1, times)


def _powers(count, steps: int, power: float):
    """((k - 1/2) / (steps - 1/2))^power of the k-th steps from the end: 1 for the first step."""
    return ((count - 0.5) / (steps - 0.5)) ** power


def _strided(gamma: np.ndarray, steps: int) -> np.ndarray:
    """The smallest integer stride from step 0 that takes `steps` steps."""
    total = len(gamma)
    strides = [s for s in range(1, total + 1) if len(range(0, total, s)) == steps]
    if not strides:
        raise UserError(
            f"steps is {steps}: no integer stride takes so many of {total}; choose another "
            "number, or spacing=even"
        )
    kept = np.arange(0, total, strides[0])
    if gamma[kept[-1]] > max(MOST_SIGNAL, gamma[-1]):
        raise UserError(
            f"steps is {steps}: spacing=ddim would begin at step {kept[-1]} of {total}, where "
            f"{gamma[kept[-1]]:.0%} of the signal is left; choose more steps, or spacing=even"
        )
    return kept


def _log_noise_levels(fraction, spacing: str, least, most):
    """log(sigma / alpha) at fractions of the way from the least to the most noise."""
    numpy = jnp if isinstance(fraction, jax.Array) else np
    top = numpy.minimum(most, math.log(MOST_NOISE))
    if spacing == "log_snr":
        levels = least + fraction * (top - least)
    else:
        low, high = (numpy.exp(end / RHO) for end in (least, top))
        levels = RHO * numpy.log(low + fraction * (high - low))
    return numpy.where(fraction >= 1, most, levels)


def _distinct(places: np.ndarray, total: int) -> np.ndarray:
    """Round increasing places to different integers, the last of them total - 1."""
    count = np.arange(len(places))
    rounded = np.rint(places).astype(int)
    rising = np.maximum.accumulate(rounded - count) + count
    return np.minimum(rising, total - len(places) + count)
