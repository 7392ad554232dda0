"""The reverse process as one scan, and as a compiled program from sample indices to samples."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from diffusion_jax.denoiser import Array, Condition, NoiseLevel
from diffusion_jax.diffusion import objectives, process
from diffusion_jax.diffusion.process import Transition
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, within
from diffusion_jax.sampling.editing import Given, make_edit, slerp
from diffusion_jax.sampling.guidance import Denoise, guide
from diffusion_jax.sampling.interface import Estimate, Visit
from diffusion_jax.sampling.samplers import Sampling, transitions

# Data lie in [-b, b] with b <= 1 and noise has unit variance, so a network's output is of order 1.
# One this large, as from an absurd guidance weight, would overflow float32 in its next pass.
LARGEST_OUTPUT = 1e6


class Pass(NamedTuple):
    """One reverse step, as `watch` sees it; of two passes in a step, x0 is that of the second.

    Attributes:
      x, noise, carry: what the network is given: (B, ...), values (B,), a pytree of (B, ...).
      x0: (B, ...) the estimate of x_0.
      x_next, carry_next: what the next step starts from.
    """

    x: jax.Array
    noise: NoiseLevel
    carry: Any
    x0: jax.Array
    x_next: jax.Array | None
    carry_next: Any


Watch = Callable[[Pass], Any]


class Generated(NamedTuple):
    """What a reverse process gives.

    Attributes:
      x0: (B, ...) the samples.
      sound_steps: (B,) int32, how many steps of each sample, from the first on, were sound: all
        their numbers finite, and the network's output at most `LARGEST_OUTPUT`.
      watched: what `watch` returned, each array with a leading axis of steps.
    """

    x0: jax.Array
    sound_steps: jax.Array
    watched: Any


def generate(
    denoise: Denoise,
    x: jax.Array,
    condition: Condition,
    carry: Any,
    noise: Callable[[jax.Array], jax.Array],
    sampling: Sampling,
    prediction: str,
    clip: float | None,
    *,
    guidance: Array | None = None,
    order: np.ndarray | None = None,
    edit: Callable[[jax.Array, jax.Array, Transition], jax.Array] | None = None,
    watch: Watch | None = None,
) -> Generated:
    """Run the reverse process from x_1 = `x` as one scan, handing on the network's carry.

    Args:
      denoise: (x_t, noise of (B,) values, condition, carry) -> Prediction; see
        `diffusion_jax.diffusion.objectives.denoise`.
      x: (B, ...) standard normal, or at the noise level of the first step of `order`.
      carry: the network's initial carry.
      noise: number of the visit -> (B, ...) standard normal; stochastic samplers call it.
      prediction: what the network's output stands for: 'eps', 'x0' or 'v'.
      clip: clips x0 to [-clip, clip] at every step; None does not.
      guidance: (B,) weights in place of `sampling.guidance`.
      order: (V,) the steps k to visit, one after the other; None for all T, once.
      edit: (x, number of the visit, step) -> x, after each step; see
        `diffusion_jax.sampling.editing`.
      watch: what to record of each step.
    """
    sampler = sampling.algorithm
    weight = sampling.guidance if guidance is None else guidance
    denoise = guide(denoise, weight, sampling.guidance_interval, sampling.guided_channels)
    order = np.arange(sampling.steps) if order is None else order

    def estimate(x: jax.Array, level: NoiseLevel, carry: Any) -> Estimate:
        """Run the network, and turn its output into x0 and the eps that agrees with it."""
        noise_B = jax.tree.map(lambda value: jnp.broadcast_to(value, x.shape[:1]), level)
        output, new_carry = denoise(x, noise_B, condition, carry)
        is_sound = process.everywhere(jnp.abs(output) <= LARGEST_OUTPUT)  # before clipping hides it
        output, variance = jnp.split(output.astype(x.dtype), [x.shape[-1]], axis=-1)
        x0, eps = process.to_x0_eps(output, x, noise_B, prediction, clip, consistent_eps=True)
        decay = sampling.carry_decay
        carry = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, carry, new_carry)
        return Estimate(x0, eps, variance, carry, is_sound)

    def one_step(scanned, now):
        x, carry, state, _ = scanned
        number, k, follows, step = now
        visit = Visit(step, follows, k == sampling.steps - 1, lambda: noise(number))
        state, x_next, found = sampler.step(state, x, carry, visit, estimate)
        if edit is not None:
            x_next = edit(x_next, number, step)
        is_sound = process.everywhere(jnp.isfinite(x_next) & jnp.isfinite(found.x0))
        watched = None
        if watch is not None:
            level = jax.tree.map(lambda value: jnp.broadcast_to(value, x.shape[:1]), step.now)
            watched = watch(Pass(x, level, carry, found.x0, x_next, found.carry))
        return (x_next, found.carry, state, found.x0), (found.is_sound & is_sound, watched)

    steps = jax.tree.map(lambda values: values[order], transitions(sampling, x.dtype))
    follows = jnp.asarray(np.append(False, np.diff(order) == 1))
    visits = (jnp.arange(len(order)), jnp.asarray(order), follows, steps)
    scanned = (x, carry, sampler.init(x), jnp.zeros_like(x))
    (x, _, _, x0), (is_sound, watched) = jax.lax.scan(one_step, scanned, visits)
    sound_steps = jnp.sum(jnp.cumprod(is_sound.astype(jnp.int32), axis=0), axis=0)
    return Generated(sampler.finish(x, x0), sound_steps, watched)


def sample_keys(seed: int, indices: Array) -> jax.Array:
    """Return one key per sample, (B,), a function of (seed, sample index) alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), indices)


def normal(keys: jax.Array, shape: tuple[int, ...], draw: int | jax.Array) -> jax.Array:
    """Return (B, *shape) standard normal noise: draw 0 is x_1, draw k + 1 the noise of visit k."""

    def one(key):
        return jax.random.normal(jax.random.fold_in(key, draw), shape, jnp.float32)

    return jax.vmap(one)(keys)


def random_labels(seed: int, indices: Array, num_classes: int) -> jax.Array:
    """Draw (B,) int32 labels, uniform over the classes, keyed like the samples."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(sample_keys(seed, indices), 2**31)
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(keys)


@dataclasses.dataclass(frozen=True)
class SamplingProgram:
    """A compiled reverse process that refuses samples that are not finite.

    The parameters stay as they are sharded; B must be a multiple of the number of devices that
    share the batch. Indices may repeat: they share their noise.

    Attributes:
      program: jitted (params, indices (B,) int32, condition, given) -> (samples (B, ...), or what
        is watched; number of sound reverse steps (B,) int32).
      steps: reverse steps that are taken; fewer sound ones make a sample unsound.
    """

    program: Callable[[Any, jax.Array, Condition, Given], tuple[Any, jax.Array]]
    steps: int

    def __call__(self, params: Any, indices: jax.Array, condition: Condition, given: Given) -> Any:
        """Return the samples of these indices, or what is watched.

        Raises:
          NotFiniteError: if a sample is not finite, naming it and the reverse step; after clipping
            and rounding to uint8 nobody could tell.
        """
        samples, sound_steps = self.program(params, indices, condition, given)
        sound_steps, indices = (
            part if isinstance(part, np.ndarray) else hosts.to_host(part)
            for part in (sound_steps, indices)
        )
        unsound = np.flatnonzero(sound_steps < self.steps)
        if len(unsound):
            first = unsound[np.argmin(sound_steps[unsound])]
            raise process.NotFiniteError(
                f"sample {indices[first]} is not finite: at reverse step {sound_steps[first] + 1} "
                f"of {self.steps} it, or the network's output, is NaN, infinite or above "
                f"{LARGEST_OUTPUT:g} (so are {len(unsound)} of {len(indices)} samples): lower the "
                "guidance, or sample the weights of an earlier step"
            )
        return samples


def make_sampler(
    denoiser: Any,
    objective: objectives.Objective,
    sampling: Sampling,
    shape: tuple[int, ...],
    mesh: Mesh,
    *,
    seed: int,
    latents: bool = False,
    order: np.ndarray | None = None,
    watch: Watch | None = None,
) -> SamplingProgram:
    """Make one jitted program of the whole reverse process.

    Args:
      shape: shape of one sample.
      seed: with a sample's index, decides all of its noise.
      latents: whether the samples are latents, not images.
      order: the steps, from `diffusion_jax.sampling.editing.visits`; None for all, once. Where it
        leaves out the first, it begins with `given.images`, diffused to the level of its own first.
      watch: return what this records of each `Pass`, (T, B, ...), instead of the samples.

    Returns:
      A program that gives (B, *shape) uint8 images, or float32 latents.
    """
    order = np.arange(sampling.steps) if order is None else order

    def run(params, indices: jax.Array, condition: Condition, given: Given):
        keys = sample_keys(seed, indices)
        x = normal(keys, shape, 0)
        if given.other is not None and given.fraction is not None:
            x = slerp(x, normal(sample_keys(seed, given.other), shape, 0), given.fraction)
        steps = transitions(sampling, x.dtype)
        if order[0] > 0:
            level = jax.tree.map(lambda values: values[order[0]], steps.now)
            assert given.images is not None  # where a part of the order begins
            x = process.diffuse(given.images, x, level)
        edit = None
        if given.redraw is not None or (np.diff(order) < 1).any():
            edit = make_edit(given, lambda k: normal(keys, shape, len(order) + 1 + k), order, steps)
        x0, sound_steps, watched = generate(
            lambda *args: objectives.denoise(denoiser, params, objective, *args),
            x,
            condition,
            denoiser.initial_carry(indices.shape[0]),
            lambda visit: normal(keys, shape, visit + 1),
            sampling,
            objective.prediction,
            objective.clip,
            guidance=given.guidance,
            order=order,
            edit=edit,
            watch=watch,
        )
        if watch is not None:
            return watched, sound_steps
        return x0 if latents else process.to_uint8(x0, objective.input_scale), sound_steps

    examples = by_example(mesh)
    watched = NamedSharding(mesh, PartitionSpec(None, *examples.spec))
    program = jax.jit(
        within(mesh, run),
        in_shardings=(None, examples, examples, examples),
        out_shardings=(examples if watch is None else watched, examples),
    )
    return SamplingProgram(program, len(order))
