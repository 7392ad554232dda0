"""Classifier-free guidance (arXiv 2207.12598, eq. 6), with RIN's rule for the carry.

    output = (1 + w) conditional - w unconditional

Both passes are given the same carry, and the conditional pass's carry is handed on. A weight w is a
scale s = 1 + w of papers that write unconditional + s (conditional - unconditional).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import Array, Condition, NoiseLevel, Prediction
from diffusion_jax.diffusion import process

Denoise = Callable[[jax.Array, NoiseLevel, Condition, Any], Prediction]


def guide(
    denoise: Denoise,
    weight: float | Array,
    interval: tuple[float, float] = (0.0, 1.0),
    channels: int = 0,
) -> Denoise:
    """Guide a denoising pass.

    Args:
      denoise: (x_t (B, ..., C), noise of (B,) values that are all the same, condition, carry) ->
        `Prediction`.
      weight: w; 0 is no guidance. Or (B,), one for each sample.
      interval: (low, high); guide where low <= gamma <= high (arXiv 2404.07724).
      channels: guide the first so many of the data's channels, 0 for all. The rest, and
        learned-variance channels, are those of the conditional pass.

    Returns:
      The same function, guided.
    """
    if isinstance(weight, int | float) and weight == 0:
        return denoise
    low, high = interval

    def guided(x_t, noise, condition, carry):
        conditional = denoise(x_t, noise, condition, carry)
        count = channels or x_t.shape[-1]

        def extrapolate():
            unconditional = denoise(x_t, noise, condition.dropped(), carry).output[..., :count]
            output, rest = jnp.split(conditional.output, [count], axis=-1)
            w = weight
            if isinstance(w, jax.Array):
                w = process.expand(w, output).astype(output.dtype)
            return jnp.concatenate([(1 + w) * output - w * unconditional, rest], axis=-1)

        if (low, high) == (0.0, 1.0):
            output = extrapolate()
        else:
            gamma = noise.gamma[0]
            inside = (low <= gamma) & (gamma <= high)
            output = jax.lax.cond(inside, extrapolate, lambda: conditional.output)
        return Prediction(output, conditional.carry)

    return guided
