"""What a network is given on the way from noise to a sample, to look at it there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion import objectives
from diffusion_jax.parallel.sharding import Mesh, by_example, within
from diffusion_jax.sampling.scan import check_sound, normal, sample_keys, samplers


class Passes(NamedTuple):
    """What the network is given at each reverse step, and the x0 estimate that comes of it.

    Attributes:
      x, x0: (T, B, ...).
      noise: the noise levels, (T,).
      carry: a pytree of (T, B, ...).
    """

    x: jax.Array
    noise: NoiseLevel
    carry: Any
    x0: jax.Array


def make_tracer(
    denoiser: Any,
    objective: objectives.Objective,
    sampling: samplers.Sampling,
    shape: tuple[int, ...],
    mesh: Mesh,
    *,
    seed: int,
) -> Callable[[Any, jax.Array, Condition], Passes]:
    """The passes that make the samples of `diffusion_jax.sampling.scan.make_sampler`.

    Of 'heun' they are the first of each step, with the x0 of the second.

    Returns:
      (params, indices (B,) int32, condition) -> Passes; raises `NotFiniteError` as there.
    """

    def run(params, indices: jax.Array, condition: Condition) -> tuple[Passes, jax.Array]:
        keys = sample_keys(seed, indices)
        first = normal(keys, shape, 0), denoiser.initial_carry(len(indices))
        _, after = samplers.generate(
            lambda *given: objectives.denoise(denoiser, params, objective, *given),
            first[0],
            condition,
            first[1],
            lambda step: normal(keys, shape, step + 1),
            sampling,
            objective.prediction,
            objective.clip,
            trajectory=True,
        )
        x, carry = jax.tree.map(
            lambda start, later: jnp.concatenate([start[None].astype(later.dtype), later[:-1]]),
            first,
            (after.x, after.carry),
        )
        noise = samplers.transitions(sampling, x.dtype).now
        return Passes(x, noise, carry, after.x0), after.sound_steps()

    program = jax.jit(within(mesh, run), in_shardings=(None, by_example(mesh), by_example(mesh)))

    def passes(params, indices: jax.Array, condition: Condition) -> Passes:
        found, sound_steps = program(params, indices, condition)
        check_sound(sound_steps, sampling.steps, indices)
        return found

    return passes
