"""Classifier-free guidance with the carry rule of RIN.

    output = (1 + w) conditional - w unconditional

Both passes are fed the same carry, and only the conditional pass's carry goes on.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from diffusion_jax.denoiser import Condition, Prediction
from diffusion_jax.errors import UserError

Denoise = Callable[[jax.Array, jax.Array, Condition, Any], Prediction]


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How strongly, and at which noise levels, to guide.

    Attributes:
      weight: w; 0 is no guidance, and costs no second pass.
      interval: (low, high): guide where low <= gamma <= high (arXiv 2404.07724).

    Raises:
      UserError: on construction, for an interval that is not ordered within [0, 1].
    """

    weight: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"guidance interval is {tuple(self.interval)}: give (low, high) of gamma, "
                "0 <= low <= high <= 1"
            )


NO_GUIDANCE = Guidance()


def guide(denoise: Denoise, guidance: Guidance) -> Denoise:
    """Wraps `denoise(x_t, gamma, condition, carry)`; gamma (B,) must be one value for the batch."""
    if guidance.weight == 0:
        return denoise
    low, high = guidance.interval

    def guided(x_t, gamma, condition, carry):
        conditional = denoise(x_t, gamma, condition, carry)

        def extrapolate():
            unconditional = denoise(x_t, gamma, condition.dropped(), carry)
            w = guidance.weight
            return (1 + w) * conditional.output - w * unconditional.output

        if (low, high) == (0.0, 1.0):
            output = extrapolate()
        else:
            inside = (low <= gamma[0]) & (gamma[0] <= high)
            output = jax.lax.cond(inside, extrapolate, lambda: conditional.output)
        return Prediction(output, conditional.carry)

    return guided
