"""What samples may be given besides their noise: images to inpaint or vary, and other noise.

Inpainting is RePaint's (arXiv 2201.09865), image to image SDEdit's (arXiv 2108.01073).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Array
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.process import Transition
from diffusion_jax.errors import UserError, check_at_least

JUMP = 10  # steps that are taken again at once, RePaint's j
_ROUNDING = 1e-6  # of times in float32


class Given(NamedTuple):
    """What each sample is given; absent parts are None.

    Attributes:
      images: (B, *shape) float, in the range of the network's x_0.
      redraw: (B, H, W, 1) bool, where the image is redrawn; elsewhere it is kept.
      other: (B,) int32, indices of samples whose initial noise is mixed in.
      fraction: (B,) float32, how much of it: 0 is the sample's own noise, 1 the other's.
      guidance: (B,) float32, weights w in place of `Sampling.guidance`.
    """

    images: Array | None = None
    redraw: Array | None = None
    other: Array | None = None
    fraction: Array | None = None
    guidance: Array | None = None


NOTHING = Given()


def visits(
    steps: int,
    noise_level: float = 1.0,
    resample: int = 1,
    jump: int = JUMP,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Return the reverse steps, of 0..`steps`-1, in the order in which they are taken.

    Args:
      noise_level: the time t, above 0 and up to 1, that the reverse process starts from. It starts
        at the noisiest step that is not noisier.
      resample: RePaint's r: `jump` steps down, then back up and down again, r times in all, so that
        what is drawn can agree with what is kept (section 4.2). The noisiest steps are taken once.
      times: (steps,) that the steps start from, decreasing; see
        `diffusion_jax.sampling.samplers.Sampling.times`. None for even steps from 1 on.

    Raises:
      UserError: for a noise level that leaves no step, or fewer than 1 resampling.
    """
    check_at_least("resample", resample, 1)
    times = 1 - np.arange(steps) / steps if times is None else times
    lowest = times[-1] - _ROUNDING
    if not lowest <= noise_level <= 1:
        enough = math.ceil(lowest * 1e4) / 1e4
        raise UserError(f"noise_level is {noise_level:g}: of {steps} steps, give {enough:g} to 1")
    first = int(np.argmax(times - _ROUNDING <= noise_level))
    starts = list(range(steps - jump, first, -jump))[::-1]
    once = np.arange(first, starts[0] if starts else steps)
    again = [np.tile(np.arange(start, start + jump), resample) for start in starts]
    return np.concatenate([once, *again])


def slerp(first: jax.Array, second: jax.Array, fraction: Array) -> jax.Array:
    """Mix two normal draws (B, ...) on the arc between them, which keeps the norm of a draw.

        sin((1 - f) angle) / sin(angle) first + sin(f angle) / sin(angle) second

    Args:
      fraction: (B,), 0 gives `first`, 1 `second`.
    """
    axes = tuple(range(1, first.ndim))
    norms = jnp.sqrt(jnp.sum(first**2, axes) * jnp.sum(second**2, axes))
    cosine = jnp.sum(first * second, axes) / norms
    angle = jnp.arccos(jnp.clip(cosine, -1 + 1e-6, 1 - 1e-6))
    weights = (jnp.sin(part * angle) / jnp.sin(angle) for part in (1 - fraction, fraction))
    of_first, of_second = (process.expand(weight, first) for weight in weights)
    return of_first * first + of_second * second


def make_edit(
    given: Given, noise: Callable[[jax.Array], jax.Array], order: np.ndarray, steps: Transition
) -> Callable[[jax.Array, jax.Array, Transition], jax.Array]:
    """Return what edits x after each step: (x, number of the visit, step) -> x.

    The part that is kept becomes a draw of q(x_next | image) (RePaint, eq. 8a; algorithm 1, lines 5
    and 8). Where the order goes back, x is diffused up to the noise level of the step to be taken
    again (line 10).

    Args:
      noise: draw number, from 0 on, -> (B, ...) standard normal.
      order: of `visits`; steps: of `diffusion_jax.sampling.samplers.transitions`.
    """
    following = np.append(order[1:], order[-1] + 1)
    jumps = following <= order
    # After the last visit nothing follows: any level will do.
    targets = jax.tree.map(lambda now: now[following % len(now)], steps.now)

    def edit(x: jax.Array, visit: jax.Array, step: Transition) -> jax.Array:
        if given.redraw is not None:
            assert given.images is not None  # of which a part is kept
            known = process.diffuse(given.images, noise(2 * visit), step.next)
            x = jnp.where(given.redraw, x, known)
        if not jumps.any():
            return x
        target = jax.tree.map(lambda values: values[visit], targets)
        beta = process.transition(target, step.next).beta
        noisier = jnp.sqrt(1 - beta) * x + jnp.sqrt(beta) * noise(2 * visit + 1)
        return jnp.where(jnp.asarray(jumps)[visit], noisier, x)

    return edit
