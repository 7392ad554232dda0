"""From parameters and sample indices to images."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import objectives, process
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, within
from diffusion_jax.sampling import samplers
from diffusion_jax.sampling.editing import Given, make_edit, slerp


def sample_keys(seed: int, indices: jax.Array) -> jax.Array:
    """One key per sample, (B,), a function of (seed, sample index) alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), indices)


def random_labels(seed: int, indices: jax.Array, num_classes: int) -> jax.Array:
    """(B,) int32 labels, uniform over the classes, keyed like the samples."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(sample_keys(seed, indices), 2**31)
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(keys)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A compiled reverse process that refuses samples that are not finite.

    The parameters stay as they are sharded; B must be a multiple of the examples' parts of the
    mesh. Indices may repeat: they share their noise.

    Attributes:
      program: jitted (params, indices (B,) int32, condition, given) -> (samples (B, ...), number of
        reverse steps (B,) int32 whose numbers were all sound).
      steps: that are taken; fewer sound ones make a sample unsound.
    """

    program: Callable[[Any, jax.Array, Condition, Given], tuple[jax.Array, jax.Array]]
    steps: int

    def __call__(
        self, params: Any, indices: jax.Array, condition: Condition, given: Given
    ) -> jax.Array:
        """Return the samples of these indices.

        Raises:
          NotFiniteError: if one is not finite, naming it and the reverse step; after clipping and
            rounding to uint8 nobody could tell.
        """
        samples, sound_steps = self.program(params, indices, condition, given)
        check_sound(sound_steps, self.steps, indices)
        return samples


def check_sound(sound_steps: jax.Array, steps: int, indices: jax.Array) -> None:
    """Raises `NotFiniteError` unless all `steps` of every sample were sound.

    Args:
      sound_steps: (B,) int, how many were, one after the other.
      indices: (B,) int, of the samples.
    """
    sound_steps, indices = (
        part if isinstance(part, np.ndarray) else hosts.to_host(part)
        for part in (sound_steps, indices)
    )
    unsound = np.flatnonzero(sound_steps < steps)
    if len(unsound):
        first = unsound[np.argmin(sound_steps[unsound])]
        raise process.NotFiniteError(
            f"sample {indices[first]} is not finite: at reverse step {sound_steps[first] + 1} of "
            f"{steps} it, or the network's output, is NaN, infinite or above "
            f"{samplers.LARGEST_OUTPUT:g} (so are {len(unsound)} of {len(indices)} samples): lower "
            "the guidance, or sample the weights of an earlier step"
        )


def make_sampler(
    denoiser: Any,
    objective: objectives.Objective,
    sampling: samplers.Sampling,
    shape: tuple[int, ...],
    mesh: Mesh,
    *,
    seed: int,
    latents: bool = False,
    order: np.ndarray | None = None,
    watched: Sequence[int] = (),
) -> Sampler:
    """Make one jitted program for the whole reverse process.

    Args:
      shape: shape of one sample.
      seed: with a sample's index, decides all of its noise.
      latents: the samples are latents, not images.
      order: of the steps, by `diffusion_jax.sampling.editing.visits`, None for all, once; where it
        leaves out the first, `given.images` are diffused to where it begins.
      watched: numbers of visits to look at, instead of the samples.

    Returns:
      A `Sampler` of (B, *shape) uint8 images, or float32 latents; with `watched`
      (B, len(watched), 2, *shape), x_t and the estimate of x_0 from it.
    """
    order = np.arange(sampling.steps) if order is None else order

    def denoise(params):
        return lambda *args: objectives.denoise(denoiser, params, objective, *args)

    def run(params, indices: jax.Array, condition: Condition, given: Given):
        keys = sample_keys(seed, indices)

        def noise(visit):
            return normal(keys, shape, visit + 1)

        def noise_of_edits(draw):
            return normal(keys, shape, len(order) + 1 + draw)

        start = normal(keys, shape, 0)
        if given.other is not None:
            others = normal(sample_keys(seed, given.other), shape, 0)
            start = slerp(start, others, given.fraction)
        steps = samplers.transitions(sampling, start.dtype)
        if order[0] > 0:
            level = jax.tree.map(lambda values: values[order[0]], steps.now)
            start = process.diffuse(given.images, start, level)
        edits = given.redraw is not None or (np.diff(order) < 1).any()
        x0, states = samplers.generate(
            denoise(params),
            start,
            condition,
            denoiser.initial_carry(indices.shape[0]),
            noise,
            _guided(sampling, given.guidance),
            objective.prediction,
            objective.clip,
            trajectory=bool(watched),
            order=order,
            edit=make_edit(given, noise_of_edits, order, steps) if edits else None,
        )
        if watched:
            before = jnp.concatenate([start[None], states.x[:-1]])
            places = np.asarray(watched)
            x0 = jnp.moveaxis(jnp.stack([before[places], states.x0[places]], axis=1), 2, 0)
        samples = x0 if latents else process.to_uint8(x0, objective.input_scale)
        return samples, states.sound_steps()

    program = jax.jit(
        within(mesh, run),
        in_shardings=(None, by_example(mesh), by_example(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    return Sampler(program, len(order))


def _guided(sampling: samplers.Sampling, weights: jax.Array | None) -> samplers.Sampling:
    if weights is None:
        return sampling
    guidance = dataclasses.replace(sampling.guidance, weight=weights)
    return dataclasses.replace(sampling, guidance=guidance)


def normal(keys: jax.Array, shape: tuple[int, ...], draw: int | jax.Array) -> jax.Array:
    """(B, *shape) standard normal: draw 0 is the start, draw k + 1 that of step k."""

    def one(key):
        return jax.random.normal(jax.random.fold_in(key, draw), shape, jnp.float32)

    return jax.vmap(one)(keys)
