"""The scale at which a diffusion sees latents. Readers of data need it, so it imports no JAX."""

from typing import Any, NamedTuple

from diffusion_jax.fields import Number

LARGEST = 1e6  # beyond it, or its inverse, a factor is no scale of latents but a mistake


class Scaling(NamedTuple):
    """latents = scaling_factor (z - shift_factor), of about unit variance.

    The names are those of diffusers' config.json. The defaults are Stable Diffusion's f8
    autoencoders', sd-vae-ft-ema among them.
    """

    scaling_factor: float = 0.18215
    shift_factor: float = 0.0

    def __str__(self) -> str:
        return f"scaling_factor {self.scaling_factor:g} and shift_factor {self.shift_factor:g}"


STABLE_DIFFUSION = Scaling()


def check_scaling(where: str, scaling_factor: Any, shift_factor: Any) -> Scaling:
    """Return the scaling of values that a file or a config gives.

    Args:
      where: the file or field, for the message.

    Raises:
      UserError: for anything but numbers that float32 can compute with.
    """
    scale = Number(at_least=1 / LARGEST, at_most=LARGEST)
    shift = Number(at_least=-LARGEST, at_most=LARGEST)
    return Scaling(
        scale(f"{where}: scaling_factor", scaling_factor),
        shift(f"{where}: shift_factor", shift_factor),
    )
