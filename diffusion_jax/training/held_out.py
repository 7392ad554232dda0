"""The training loss on fixed examples with fixed noise, so that its change is the network's."""

from collections.abc import Callable
from typing import Any

import jax

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.diffusion import objectives
from diffusion_jax.parallel.sharding import Mesh, by_example, within
from diffusion_jax.sampling.scan import sample_keys
from diffusion_jax.training.batches import Batch, split_batch


def make_losses(
    denoiser: Any,
    objective: objectives.Objective,
    mesh: Mesh,
    *,
    seed: int,
    conditioning_frames: int = 0,
    scaling: Scaling = STABLE_DIFFUSION,
) -> Callable[[Any, Batch, jax.Array], jax.Array]:
    """Return a function that takes the training loss of each example, the network's dropout off.

    The time, the noise, the label dropout and the self-conditioning of an example are keyed by
    (seed, its index): they are the same at every call, and on any number of devices.

    Returns:
      (params, batch, indices (B,) int32) -> (B,) float32.
    """

    def run(params: Any, batch: Batch, indices: jax.Array) -> jax.Array:
        keys = sample_keys(seed, indices)
        data = split_batch(batch, keys, objective.input_scale, conditioning_frames, scaling)
        draws = objectives.draw(keys, data[0].shape[1:])
        return objectives.losses(denoiser, params, objective, *data, draws)

    return jax.jit(within(mesh, run), in_shardings=(None, by_example(mesh), by_example(mesh)))
