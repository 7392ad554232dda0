"""The programs of a config that launch.benchmark times, on data that are made up."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.timing import compile_program
from diffusion_jax.data.stream import Stream
from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.experiment.build import Experiment, build_source
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, within
from diffusion_jax.sampling.editing import NOTHING
from diffusion_jax.sampling.scan import make_sampler
from diffussm_jax import BidirectionalSSM
from launch.describe import in_program, multiply_adds, step_flops

REVERSE_STEPS = 4  # to time; the sampler is one scan, whose steps are alike


@dataclasses.dataclass(frozen=True)
class Phase:
    """One program, ready to be timed.

    Attributes:
      call: runs it once, to its end.
      examples: that one call is about; reverse steps are of so many examples.
      flops: of the model, in one call; 0 where it is not about them.
      dtype: of the matmuls.
      moved: bytes that it must read and write at least, or None where it is not about them.
      memory: bytes on a device; 0 for what is not compiled.
      compile_seconds: of compiling, and of taking it from jax's cache; (0, 0) for the rest.
    """

    call: Callable[[], Any]
    examples: int
    flops: float
    dtype: str
    moved: float | None = None
    memory: int = 0
    compile_seconds: tuple[float, float] = (0.0, 0.0)


def train(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Phase:
    """One update of the train state, which is donated to the next."""
    size = config.train.batch_size

    def init():
        return experiment.init_state(config.seed, config.train.steps)

    shapes = jax.eval_shape(init)
    state = jax.jit(init, out_shardings=experiment.sharding(shapes, mesh))()
    rng = np.random.default_rng(0)
    shape = (size, *experiment.example_shape)
    if experiment.autoencoder is None:
        batch = {"images": rng.integers(0, 256, shape, np.uint8)}
    else:
        batch = {"moments": rng.standard_normal(shape, np.float32)}
    if experiment.num_classes:
        batch["labels"] = rng.integers(0, experiment.num_classes, size, np.int32)
    batch = hosts.put(batch, mesh)
    program = compile_program(experiment.train_step(config, state, mesh), state, batch)

    def call() -> None:
        nonlocal state
        state, metrics = program.call(state, batch)
        jax.block_until_ready((state, metrics))

    flops = step_flops(experiment, size)
    dtype = config.model.dtype
    return Phase(call, size, flops, dtype, None, program.memory, program.seconds)


def _inputs(experiment: Experiment, size: int) -> tuple:
    """(x_t, noise, condition, carry) of a batch, for the network."""
    x = jax.random.normal(jax.random.key(0), (size, *experiment.sample_shape))
    noise = NoiseLevel(jnp.full((size,), 0.5), jnp.full((size,), 500, jnp.int32))
    frames = experiment.conditioning_frames
    condition = Condition(
        labels=jnp.zeros((size,), jnp.int32) if experiment.num_classes else None,
        frames=jnp.zeros((size, frames, *x.shape[2:])) if frames else None,
    )
    return x, noise, condition, experiment.denoiser.initial_carry(size)


def forward(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Phase:
    """One pass of the network."""
    size = config.train.batch_size
    params = _params(experiment, mesh)
    inputs = jax.device_put(_inputs(experiment, size), by_example(mesh))

    def apply(params, inputs):
        return experiment.denoiser.apply({"params": params}, *inputs)

    program = compile_program(jax.jit(within(mesh, apply)), params, inputs)
    flops = 2 * sum(multiply_adds(experiment, size).values())
    call = _awaiting(program.call, params, inputs)
    return Phase(call, size, flops, config.model.dtype, None, program.memory, program.seconds)


def sampler(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Phase:
    """`REVERSE_STEPS` steps of the config's sampler, latents not decoded."""
    size = config.train.batch_size
    sampling = dataclasses.replace(experiment.sampling, steps=REVERSE_STEPS)
    run = make_sampler(
        experiment.denoiser,
        experiment.objective,
        sampling,
        experiment.sample_shape,
        mesh,
        seed=config.seed,
        latents=experiment.autoencoder is not None,
    )
    params = _params(experiment, mesh)
    condition = _inputs(experiment, size)[2]
    indices = jnp.arange(size, dtype=jnp.int32)
    arguments = jax.device_put((indices, condition), by_example(mesh))
    program = compile_program(run.program, params, *arguments, NOTHING)
    passes = 1 + bool(sampling.guidance.weight)
    flops = 2 * REVERSE_STEPS * passes * sum(multiply_adds(experiment, size).values())
    call = _awaiting(program.call, params, *arguments, NOTHING)
    examples, dtype = REVERSE_STEPS * size, config.model.dtype
    return Phase(call, examples, flops, dtype, None, program.memory, program.seconds)


def ssm(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Phase | None:
    """One bidirectional state space layer with its gradient: kernels and both convolutions.

    It must read its input twice, write both outputs, read both their gradients, and write that of
    the input: 7 arrays (B, L, D).
    """
    if config.model.name != "diffussm":
        return None
    size, model = config.train.batch_size, experiment.denoiser
    layer = BidirectionalSSM(model.state_size, model.start, model.form)
    shape = (size, model.geometry.num_tokens, model.dim)
    u = jax.random.normal(jax.random.key(0), shape).astype(model.dtype)
    params = jax.jit(layer.init)(jax.random.key(1), u[:1, :16])
    u = jax.device_put(u, by_example(mesh))

    def step(params, u):
        y, pull = jax.vjp(layer.apply, params, u)
        return pull(y)

    program = compile_program(jax.jit(within(mesh, step)), params, u)
    counted = in_program(jax.make_jaxpr(step)(params, u).jaxpr)
    return Phase(
        _awaiting(program.call, params, u),
        size,
        2 * sum(counted.values()),
        "float32",
        7 * math.prod(u.shape) * u.dtype.itemsize,
        program.memory,
        program.seconds,
    )


def data(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Phase:
    """The next batch of the config's data, on the devices."""
    source = build_source(config, experiment)
    stream = Stream(source, config.train.batch_size, config.seed, flip=config.data.flip)
    batches = stream.batches(0)

    def call() -> None:
        jax.block_until_ready(hosts.put(next(batches), mesh))

    return Phase(call, config.train.batch_size, 0.0, config.model.dtype)


PHASES = {"train": train, "forward": forward, "sampler": sampler, "ssm": ssm, "data": data}


def _params(experiment: Experiment, mesh: Mesh) -> Any:
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    sharding = experiment.sharding(shapes, mesh)
    return jax.jit(experiment.init_params, out_shardings=sharding)(jax.random.key(0))


def _awaiting(call: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(call(*arguments))
