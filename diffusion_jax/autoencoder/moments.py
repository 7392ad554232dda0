"""The posterior of an image under the autoencoder, and the latents that a diffusion is trained on.

q(z | image) = N(mean, exp(log_variance))         of each latent on its own
latents = scaling_factor (z - shift_factor)       about unit variance
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.denoiser import Array


class Moments(NamedTuple):
    """A diagonal Gaussian posterior: mean and log-variance, float32 (B, h, w, C) each."""

    mean: jax.Array
    log_variance: jax.Array

    def sample(self, eps: jax.Array) -> jax.Array:
        """Return z (B, h, w, C), float32, for standard normal `eps` of that shape."""
        return self.mean + jnp.exp(self.log_variance / 2) * eps

    def pack(self) -> jax.Array:
        """Return (B, h, w, 2C), [mean | log_variance], as data sets store moments."""
        return jnp.concatenate(self, axis=-1)


def unpack(packed: Array) -> Moments:
    """Return moments from (..., 2C) of any float dtype; log-variances are clamped to [-30, 20]."""
    mean, log_variance = jnp.split(packed.astype(jnp.float32), 2, axis=-1)
    return Moments(mean, jnp.clip(log_variance, -30, 20))


def to_latents(z: jax.Array, scaling: Scaling = STABLE_DIFFUSION) -> jax.Array:
    """Return what the diffusion sees of a z, (..., C)."""
    return scaling.scaling_factor * (z - scaling.shift_factor)


def from_latents(latents: jax.Array, scaling: Scaling = STABLE_DIFFUSION) -> jax.Array:
    """Return the z that `Autoencoder.decode` takes, (..., C): the inverse of `to_latents`."""
    return latents / scaling.scaling_factor + scaling.shift_factor
