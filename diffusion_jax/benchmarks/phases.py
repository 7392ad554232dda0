"""What launch.benchmark times of a config: its programs on made-up data, and reading its data.

A network may name layers of its own that are worth timing by themselves, in an attribute of its
class, `phases`: {name: function of the network, which returns a layer and the shape of its input
for one example}.
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.timing import Runnable, waiting
from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.cache import cached_in
from diffusion_jax.compilation.costs import program_flops, step_flops, tree_bytes
from diffusion_jax.compilation.programs import memory_of
from diffusion_jax.console import say
from diffusion_jax.data.stream import Stream
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.parallel import hosts, sharding
from diffusion_jax.parallel.sharding import Mesh

REVERSE_STEPS = 4  # to time; the sampler is one scan, whose steps are alike


def train(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Runnable:
    """One update of the train state, which is donated to the next."""
    size = config.train.batch_size
    program = _program(
        jobs.train_step(config, experiment, mesh, size),
        lambda key: experiment.init_state(config.seed, config.train.steps),
        mesh,
        size,
        config.model.dtype,
        updates=True,
    )
    # What remat computes again is work of the program, and not of the model.
    return dataclasses.replace(program, flops=step_flops(experiment, size))


def forward(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Runnable:
    """One pass of the network."""
    size = config.train.batch_size
    job = jobs.forward(experiment, size, mesh)
    return _program(job, experiment.init_params, mesh, size, config.model.dtype)


def sampler(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Runnable:
    """`REVERSE_STEPS` steps of the config's sampler, latents not decoded."""
    size = config.train.batch_size
    sampling = dataclasses.replace(experiment.sampling, steps=REVERSE_STEPS)
    short = dataclasses.replace(experiment, sampling=sampling)
    job = jobs.sampler(short, mesh, size, config.seed)
    return _program(job, short.init_params, mesh, REVERSE_STEPS * size, config.model.dtype)


def layer(name: str, config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Runnable | None:
    """A layer that the network names, with its gradient; None where it names no such layer."""
    network = experiment.denoiser
    if (make := getattr(network, "phases", {}).get(name)) is None:
        return None
    module, shape = make(network)
    return layer_program(module, (config.train.batch_size, *shape), config.model.dtype, mesh)


def layer_program(
    module: nn.Module, shape: tuple[int, ...], dtype: str, mesh: Mesh, gradient: bool = True
) -> Runnable:
    """Return a program of one layer.

    Args:
      shape: shape of its input, (B, ...).
      dtype: of its input.
      gradient: whether it computes the gradient of input and parameters, or its output alone.
    """
    u = jax.ShapeDtypeStruct(shape, dtype)

    def init(key):
        return nn.unbox(module.init(key, jnp.zeros((1, *shape[1:]), dtype)))

    def backward(params, u):
        y, pull = jax.vjp(module.apply, params, u)
        return pull(y)  # as of half the sum of squares

    params = jax.eval_shape(init, jax.random.key(0))
    function = sharding.within(mesh, backward if gradient else module.apply)
    job = jobs.Job(jax.jit(function, in_shardings=(None, sharding.by_example(mesh))), (params, u))
    of_products = str(jnp.dtype(getattr(module, "dtype", None) or module.param_dtype))
    program = _program(job, init, mesh, shape[0], of_products)
    # The forward pass reads u and writes y, the backward pass reads u and the gradient of y, and
    # writes the gradient of u. Whatever else a layer keeps is its own affair.
    whole, output = tree_bytes(u), tree_bytes(jax.eval_shape(module.apply, params, u))
    return dataclasses.replace(program, moved=whole + output + gradient * (2 * whole + output))


def data(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Runnable:
    """The next batch of the config's data, on the devices."""
    source = build_source(config, experiment)
    stream = Stream(source, config.train.batch_size, config.seed, flip=config.data.flip)
    batches = stream.batches(0)
    call = waiting(lambda: hosts.put(next(batches), mesh))
    return Runnable(call, config.train.batch_size, dtype=config.model.dtype)


PHASES = {"train": train, "forward": forward, "sampler": sampler, "data": data}


def phase_names(networks: Iterable[type]) -> list[str]:
    """Return the phases of any config, and those that one of these networks names."""
    named = [name for network in networks for name in getattr(network, "phases", {})]
    return [*PHASES, *dict.fromkeys(named)]


def groups(
    phases: Iterable[str], configs: dict[str, ConfigDict]
) -> Iterator[tuple[str, dict[str, Runnable]]]:
    """Yield each phase with its programs, one for each config; they are made when it is their turn.

    Raises:
      UserError: if a config cannot work, or a batch does not divide over the devices.
    """
    experiments = {value: build(config) for value, config in configs.items()}
    for phase in phases:
        made = {}
        for value, config in configs.items():
            mesh = sharding.make_mesh(**config.mesh)
            sharding.check_batch(config.train.batch_size, config.train.accumulate, mesh)
            make = PHASES.get(phase, functools.partial(layer, phase))
            if program := make(config, experiments[value], mesh):
                made[value] = program
        if made:
            yield phase, made
        else:
            say(f"{phase}: nothing of it in this config")


def _program(
    job: jobs.Job,
    init: Callable[[jax.Array], Any],
    mesh: Mesh,
    examples: int,
    dtype: str,
    updates: bool = False,
) -> Runnable:
    """Compile a job, and call it with what `init` makes of a key and with made-up arrays.

    It is compiled twice, with a cache that is empty at first: the second time is what a later start
    of a command takes.

    Args:
      updates: its first result takes the place of its first argument in the next call.
    """
    place = jax.tree.map(lambda leaf: leaf.sharding, job.arguments[0])
    held = jax.jit(init, out_shardings=place)(jax.random.key(0))
    inputs = jax.device_put(_made_up(job.arguments[1:]), sharding.by_example(mesh))
    seconds = []
    with tempfile.TemporaryDirectory() as folder, cached_in(folder):
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            compiled = job.trace().lower().compile()
            seconds.append(time.perf_counter() - start)

    def call() -> None:
        nonlocal held
        results = jax.block_until_ready(compiled(held, *inputs))
        held = results[0] if updates else held

    needed = memory_of(compiled)
    memory, flops = sum(needed.values()) - needed["code"], program_flops(job.trace())
    return Runnable(call, examples, flops, dtype, None, memory, (seconds[0], seconds[1]))


def _made_up(shapes: Any) -> Any:
    """Arrays of these shapes: bytes, floats from 0 to 1, and integers that are 0."""
    rng = np.random.default_rng(0)

    def array(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.dtype == np.uint8:
            return rng.integers(0, 256, leaf.shape, np.uint8)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return rng.random(leaf.shape, np.float32).astype(leaf.dtype)
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(array, shapes)
