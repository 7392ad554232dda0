"""Classifier-free guidance with the carry rule of RIN.

    output = (1 + w) conditional - w unconditional

Both passes are fed the same carry, and only the conditional pass's carry goes on. A weight w is a
scale s = 1 + w of papers that write unconditional + s (conditional - unconditional).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.fields import RATE, Checked, Each, Number, count, ruled

Denoise = Callable[[jax.Array, NoiseLevel, Condition, Any], Prediction]


@dataclasses.dataclass(frozen=True)
class Guidance(Checked):
    """How strongly, and at which noise levels, to guide.

    Attributes:
      weight: w; 0 is no guidance, and costs no second pass. Or (B,), one for each sample.
      interval: (low, high): guide where low <= gamma <= high (arXiv 2404.07724).
      channels: guide the first so many of the data's channels, 0 for all; DiT's results guide 3 of
        the 4 latent channels. The rest, and variances, are those of the conditional pass.

    Raises:
      UserError: on construction, for an interval that is not ordered within [0, 1], or fewer than
        0 channels.
    """

    weight: float | jax.Array = 0.0
    interval: tuple[float, float] = ruled(Each(RATE, fewest=2), (0.0, 1.0))
    channels: int = count(0, at_least=0)

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.weight, int | float):
            Number()("guidance weight", self.weight)
        low, high, *more = self.interval
        if more or low > high:
            raise UserError(
                f"guidance interval is {tuple(self.interval)}: give (low, high) of gamma, "
                "0 <= low <= high <= 1"
            )


NO_GUIDANCE = Guidance()


def guide(denoise: Denoise, guidance: Guidance) -> Denoise:
    """Wraps a denoising pass.

    Args:
      denoise: (x_t (B, ..., C), noise of (B,) values that are all the same, condition, carry) ->
        `Prediction`.

    Returns:
      The same function, guided.
    """
    if isinstance(guidance.weight, int | float) and guidance.weight == 0:
        return denoise
    low, high = guidance.interval

    def guided(x_t, noise, condition, carry):
        conditional = denoise(x_t, noise, condition, carry)
        channels = guidance.channels or x_t.shape[-1]

        def extrapolate():
            unconditional = denoise(x_t, noise, condition.dropped(), carry).output[..., :channels]
            output, rest = jnp.split(conditional.output, [channels], axis=-1)
            w = guidance.weight
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
