"""The programs of a config as functions and shapes, to be studied before any array exists.

JAX traces and compiles a function from the shapes of its arguments alone. Counting FLOPs, compiling
for devices that are not there, and benchmarks all start from the same jobs, so that they speak of
the programs that the commands run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.parallel.sharding import Mesh, by_example, check_batch, within
from diffusion_jax.sampling.editing import NOTHING
from diffusion_jax.training.checkpoints import abstract_like


class Job(NamedTuple):
    """One program.

    Attributes:
      function: jitted.
      arguments: trees of `jax.ShapeDtypeStruct`; the first holds the parameters or the train state.
    """

    function: Any
    arguments: tuple

    def trace(self) -> jax.stages.Traced:
        """Return the traced program, which knows its jaxpr and can be lowered."""
        return self.function.trace(*self.arguments)


def train_step(config: ConfigDict, experiment: Experiment, mesh: Mesh, batch_size: int) -> Job:
    """Return the train step of `launch.train`: (state, batch) -> (state, metrics).

    Raises:
      UserError: if the batch does not divide over the mesh.
    """
    check_batch(batch_size, config.train.accumulate, mesh)
    state = jax.eval_shape(lambda: experiment.init_state(config.seed, config.train.steps))
    state = abstract_like(state, experiment.sharding(state, mesh))
    name, dtype = (
        ("images", jnp.uint8) if experiment.autoencoder is None else ("moments", jnp.float32)
    )
    batch = {name: _batch(batch_size, experiment.example_shape, dtype)}
    if experiment.num_classes:
        batch["labels"] = _batch(batch_size, dtype=jnp.int32)
    return Job(experiment.train_step(config, state, mesh), (state, batch))


def forward(experiment: Experiment, batch_size: int, mesh: Mesh | None = None) -> Job:
    """Return one pass of the network: (params, (x_t, noise, condition, carry)) -> prediction."""

    def apply(params, inputs):
        return experiment.denoiser.apply({"params": params}, *inputs)

    inputs = (
        _batch(batch_size, experiment.sample_shape),
        NoiseLevel(_batch(batch_size), _batch(batch_size, dtype=jnp.int32)),
        _condition(experiment, batch_size),
        jax.eval_shape(lambda: experiment.denoiser.initial_carry(batch_size)),
    )
    if mesh is None:
        return Job(jax.jit(apply), (_params(experiment), inputs))
    function = jax.jit(within(mesh, apply), in_shardings=(None, by_example(mesh)))
    return Job(function, (_params(experiment, mesh), inputs))


def sampler(experiment: Experiment, mesh: Mesh, count: int, seed: int = 0) -> Job:
    """Return the whole reverse process of `count` samples; latents are not decoded."""
    made = experiment.reverse_process(mesh, seed)
    indices, condition = _batch(count, dtype=jnp.int32), _condition(experiment, count)
    return Job(made.program, (_params(experiment, mesh), indices, condition, NOTHING))


def _batch(size: int, shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Any:
    """The shape of an array (size, *shape), in place of the array."""
    return jax.ShapeDtypeStruct((size, *shape), dtype)


def _condition(experiment: Experiment, size: int) -> Condition:
    frames = (experiment.conditioning_frames, *experiment.sample_shape[1:])
    return Condition(
        labels=_batch(size, dtype=jnp.int32) if experiment.num_classes else None,
        frames=_batch(size, frames) if experiment.conditioning_frames else None,
    )


def _params(experiment: Experiment, mesh: Mesh | None = None) -> Any:
    """Shapes of the parameters, and where they lie on a mesh."""
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return shapes if mesh is None else abstract_like(shapes, experiment.sharding(shapes, mesh))
