"""Decode latents to images, a few at a time: decoding takes far more memory than sampling."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.autoencoder.moments import from_latents
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.diffusion import process
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, round_up

AT_ONCE = 8


def on_mesh(function: Callable[..., Any], pretrained: Pretrained, mesh: Mesh) -> Callable[..., Any]:
    """Return jitted `function` of (params, batch) as a function of a batch that the mesh splits."""
    whole, split = replicated(mesh), by_example(mesh)
    function = jax.jit(function, in_shardings=(whole, split), out_shardings=split)
    return functools.partial(function, jax.device_put(pretrained.params, whole))


def make_decoder(
    pretrained: Pretrained, mesh: Mesh, at_once: int = AT_ONCE
) -> Callable[..., np.ndarray]:
    """Make a jitted decoder.

    Args:
      at_once: images that each part of the mesh's batch decodes at a time.

    Returns:
      (latents (B, h, w, c), indices (B,) or None) -> (B, f h, f w, C) uint8, all on the host. It
      raises `NotFiniteError` for an image that is not finite, naming it by its index or its row.
    """

    def decode(params, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = from_latents(latents, pretrained.model.scaling)
        x0 = pretrained.model.apply({"params": params}, z, method="decode")
        return process.to_uint8(x0, 1.0), process.everywhere(jnp.isfinite(x0))

    decoder = on_mesh(decode, pretrained, mesh)

    def decode_all(latents: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        batch = min(round_up(len(latents), mesh), at_once * round_up(1, mesh))
        images, finite = hosts.in_batches(decoder, latents, batch, mesh)
        process.check_finite(finite, indices)
        return images

    return decode_all
