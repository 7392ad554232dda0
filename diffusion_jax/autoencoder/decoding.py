"""From latents to images, a few at a time: decoding takes far more memory than sampling."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from diffusion_jax import hosts, process
from diffusion_jax.autoencoder.moments import from_latents
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.sharding import Mesh, by_example, replicated, round_up

AT_ONCE = 8


def make_decoder(
    pretrained: Pretrained, mesh: Mesh, at_once: int = AT_ONCE
) -> Callable[[np.ndarray], np.ndarray]:
    """A jitted decoder.

    Args:
      at_once: images that each part of the mesh's batch decodes at a time.

    Returns:
      latents (B, h, w, c) -> (B, f h, f w, C) uint8, both on the host.
    """

    def decode(params, latents: jax.Array) -> jax.Array:
        z = from_latents(latents, pretrained.model.scaling)
        return process.to_uint8(pretrained.model.apply({"params": params}, z, method="decode"), 1.0)

    decode = jax.jit(
        decode,
        in_shardings=(replicated(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    params = jax.device_put(pretrained.params, replicated(mesh))

    def decode_all(latents: np.ndarray) -> np.ndarray:
        batch = min(round_up(len(latents), mesh), at_once * round_up(1, mesh))
        return hosts.in_batches(functools.partial(decode, params), latents, batch, mesh)

    return decode_all
