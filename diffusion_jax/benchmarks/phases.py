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
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.timing import Program, waiting
from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.cache import cached_in
from diffusion_jax.compilation.costs import program_flops, step_flops, tree_bytes
from diffusion_jax.compilation.programs import memory_of
from diffusion_jax.console import say
from diffusion_jax.data.stream import Stream
from diffusion_jax.experiment.build import Experiment, build_source
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import (
    Mesh,
    by_example,
    check_batch,
    make_mesh,
    within,
)

REVERSE_STEPS = 4  # to time; the sampler is one scan, whose steps are alike


def train(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Program:
    """One update of the train state, which is donated to the next."""
    size = config.train.batch_size
    job = jobs.train_step(config, experiment, mesh, size)

    def init():
        return experiment.init_state(config.seed, config.train.steps)

    state = jax.jit(init, out_shardings=experiment.sharding(job.arguments[0], mesh))()
    batch = _made_up(job.arguments[1], mesh)
    step, about = _compiled(job)

    def call() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    flops = step_flops(experiment, size)  # what remat computes again is not the model's
    return Program(call, size, flops, config.model.dtype, **about)


def forward(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Program:
    """One pass of the network."""
    size = config.train.batch_size
    job = jobs.forward(experiment, size, mesh)
    return _program(job, _params(experiment, mesh), mesh, size, config.model.dtype)


def sampler(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Program:
    """`REVERSE_STEPS` steps of the config's sampler, latents not decoded."""
    size = config.train.batch_size
    short = dataclasses.replace(experiment.sampling, steps=REVERSE_STEPS)
    short = dataclasses.replace(experiment, sampling=short)
    job = jobs.sampler(short, mesh, size, config.seed)
    examples = REVERSE_STEPS * size
    return _program(job, _params(experiment, mesh), mesh, examples, config.model.dtype)


def layer(name: str, config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Program | None:
    """A layer that the network names, with its gradient; None where it names no such layer."""
    network = experiment.denoiser
    if name not in _layers(type(network)):
        return None
    module, shape = _layers(type(network))[name](network)
    size = config.train.batch_size
    u = jax.ShapeDtypeStruct((size, *shape), config.model.dtype)
    params = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, *shape), u.dtype))

    def step(params, u):
        y, pull = jax.vjp(module.apply, params, u)
        return pull(y)

    job = jobs.Job(jax.jit(within(mesh, step), in_shardings=(None, by_example(mesh))), (params, u))
    # The forward pass reads u and writes y, the backward pass reads u and the gradient of y, and
    # writes the gradient of u. Whatever else a layer keeps is its own affair.
    moved = 3 * tree_bytes(u) + 2 * tree_bytes(jax.eval_shape(module.apply, params, u))
    dtype = str(jnp.dtype(getattr(module, "dtype", module.param_dtype)))
    return dataclasses.replace(_program(job, params, mesh, size, dtype), moved=moved)


def data(config: ConfigDict, experiment: Experiment, mesh: Mesh) -> Program:
    """The next batch of the config's data, on the devices."""
    source = build_source(config, experiment)
    stream = Stream(source, config.train.batch_size, config.seed, flip=config.data.flip)
    batches = stream.batches(0)

    def call() -> None:
        jax.block_until_ready(hosts.put(next(batches), mesh))

    return Program(call, config.train.batch_size, dtype=config.model.dtype)


PHASES = {"train": train, "forward": forward, "sampler": sampler, "data": data}


def phase_names(networks: Iterable[type]) -> list[str]:
    """Return the phases of any config, and those that one of these networks names."""
    return [*PHASES, *dict.fromkeys(name for network in networks for name in _layers(network))]


def groups(
    phases: Iterable[str], configs: dict[str, ConfigDict], experiments: dict[str, Experiment]
) -> Iterator[tuple[str, dict[str, Program]]]:
    """Yield each phase with its programs, one for each config; they are made when it is their turn.

    Raises:
      UserError: if a batch does not divide over the devices.
    """
    for phase in phases:
        made = {}
        for value, config in configs.items():
            mesh = make_mesh(**config.mesh)
            check_batch(config.train.batch_size, config.train.accumulate, mesh)
            make = PHASES.get(phase, functools.partial(layer, phase))
            made[value] = make(config, experiments[value], mesh)
        if found := {value: program for value, program in made.items() if program}:
            yield phase, found
        else:
            say(f"{phase}: nothing of it in this config")


def _layers(network: type) -> dict[str, Callable]:
    return getattr(network, "phases", {})


def _params(experiment: Experiment, mesh: Mesh) -> Any:
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    sharding = experiment.sharding(shapes, mesh)
    return jax.jit(experiment.init_params, out_shardings=sharding)(jax.random.key(0))


def _program(job: jobs.Job, params: Any, mesh: Mesh, examples: int, dtype: str) -> Program:
    """A program of parameters and made-up arrays, which keeps no state."""
    run, about = _compiled(job)
    call = waiting(run, params, *_made_up(job.arguments[1:], mesh))
    return Program(call, examples, program_flops(job.trace()), dtype, **about)


def _made_up(shapes: Any, mesh: Mesh) -> Any:
    """Arrays of these shapes, split by example: bytes, floats from 0 to 1, and integers 0."""
    rng = np.random.default_rng(0)

    def array(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.dtype == np.uint8:
            return rng.integers(0, 256, leaf.shape, np.uint8)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return rng.random(leaf.shape, np.float32).astype(leaf.dtype)
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.device_put(jax.tree.map(array, shapes), by_example(mesh))


def _compiled(job: jobs.Job) -> tuple[Callable, dict[str, Any]]:
    """The compiled program; what it needs, and how long tracing and compiling it took.

    It is compiled twice, with a cache that is empty at first: the second time is what a later start
    of the command takes.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder, cached_in(folder):
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            compiled = job.trace().lower().compile()
            seconds.append(time.perf_counter() - start)
    memory = {**memory_of(compiled), "code": 0}
    return compiled, {"memory": sum(memory.values()), "compile_seconds": tuple(seconds)}
