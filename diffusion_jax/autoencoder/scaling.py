"""How a diffusion sees the latents of an autoencoder; without JAX, for the readers of data."""

from typing import Any, NamedTuple

from diffusion_jax.errors import UserError

LARGEST = 1e6


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
    if not (type(scaling_factor) in (int, float) and 1e-6 <= scaling_factor <= LARGEST):
        raise UserError(
            f"{where}: scaling_factor is {scaling_factor!r}: give a number from 1e-6 to {LARGEST:g}"
        )
    if not (type(shift_factor) in (int, float) and -LARGEST <= shift_factor <= LARGEST):
        raise UserError(
            f"{where}: shift_factor is {shift_factor!r}: give a number within {LARGEST:g} of 0"
        )
    return Scaling(float(scaling_factor), float(shift_factor))
