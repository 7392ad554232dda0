"""From parameters and sample indices to images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import objectives, process, samplers
from diffusion_jax.denoiser import Condition
from diffusion_jax.sharding import Mesh, by_example, within


def sample_keys(seed: int, indices: jax.Array) -> jax.Array:
    """One key per sample, (B,), a function of (seed, sample index) alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), indices)


def random_labels(seed: int, indices: jax.Array, num_classes: int) -> jax.Array:
    """(B,) int32 labels, uniform over the classes, keyed like the samples."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(sample_keys(seed, indices), 2**31)
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(keys)


def make_sampler(
    denoiser: Any,
    objective: objectives.Objective,
    sampling: samplers.Sampling,
    shape: tuple[int, ...],
    mesh: Mesh,
    *,
    seed: int,
    latents: bool = False,
) -> Callable[[Any, jax.Array, Condition], jax.Array]:
    """One jitted program for the whole reverse process.

    Args:
      shape: shape of one sample.
      seed: with a sample's index, decides all of its noise.
      latents: the samples are latents, not images.

    Returns:
      (params, indices (B,) int32, condition) -> (B, *shape) uint8 images, or float32 latents. The
      parameters stay as they are sharded; B must be a multiple of the examples' parts of the mesh.
    """

    def denoise(params):
        return lambda *args: objectives.denoise(denoiser, params, objective, *args)

    def run(params, indices: jax.Array, condition: Condition):
        keys = sample_keys(seed, indices)

        def noise(step):
            return _normal(keys, shape, step + 1)

        x0, _ = samplers.generate(
            denoise(params),
            _normal(keys, shape, 0),
            condition,
            denoiser.initial_carry(indices.shape[0]),
            noise,
            sampling,
            objective.prediction,
            objective.clip,
        )
        return x0 if latents else process.to_uint8(x0, objective.input_scale)

    return jax.jit(
        within(mesh, run),
        in_shardings=(None, by_example(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )


def _normal(keys: jax.Array, shape: tuple[int, ...], draw: int | jax.Array) -> jax.Array:
    """(B, *shape) standard normal: draw 0 is the start, draw k + 1 that of step k."""

    def one(key):
        return jax.random.normal(jax.random.fold_in(key, draw), shape, jnp.float32)

    return jax.vmap(one)(keys)
