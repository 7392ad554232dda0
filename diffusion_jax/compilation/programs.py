"""The train step and the sampler of a config, compiled from shapes alone, and what they need."""

import dataclasses
import re
import time

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from diffusion_jax.compilation.cache import cached_in
from diffusion_jax.compilation.chips import CHIPS, Chip
from diffusion_jax.compilation.collectives import Collective, collectives
from diffusion_jax.denoiser import Condition
from diffusion_jax.experiment.build import Experiment, build
from diffusion_jax.parallel.sharding import Mesh, by_example, check_batch
from diffusion_jax.sampling.editing import NOTHING
from diffusion_jax.sampling.scan import make_sampler
from diffusion_jax.training.checkpoints import abstract_like
from diffussm_jax.convolution import choose_form
from launch.describe import in_program

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program needs.

    Attributes:
      chip, chips: what it runs on.
      memory: bytes on one chip: 'arguments', 'outputs' (those not written over arguments),
        'temporaries', 'code'.
      flops: of matrix products and FFTs, on all chips together, loops counted and what `remat`
        computes again. XLA's own cost_analysis counts the body of a loop once.
      collectives: what it sends.
      seconds: of the compilation.
    """

    chip: Chip
    chips: int
    memory: dict[str, int]
    flops: float
    collectives: list[Collective]
    seconds: float

    @property
    def needed(self) -> int:
        """Bytes of one chip's memory."""
        return sum(self.memory.values())

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds that it takes at least, by what it waits for.

        Memory: arguments are read, outputs written, and temporaries both, once at least.
        """
        traffic = self.needed - self.memory["code"] + self.memory["temporaries"]
        sent = sum(found.times * found.sent for found in self.collectives)
        return {
            "FLOPs": self.flops / self.chips / self.chip.flops,
            "HBM": traffic / self.chip.hbm_bandwidth,
            "links": sent / self.chip.link_bandwidth,
        }

    @property
    def bound(self) -> float:
        """Seconds that it takes at least."""
        return max(self.bounds.values())


@dataclasses.dataclass(frozen=True)
class Excess:
    """A program that does not fit: bytes of a chip's memory that it needs at least, and has."""

    needed: float
    available: float


def for_tpu(config: ConfigDict) -> ConfigDict:
    """The config as a TPU would read it: 'auto' means another convolution on another platform."""
    config = config.copy_and_resolve_references()
    if config.model.get("form") == "auto":
        config.model.form = choose_form(build(config).denoiser.geometry.num_tokens, "tpu")
    return config


def trace_train(
    config: ConfigDict, experiment: Experiment, mesh: Mesh, batch_size: int
) -> jax.stages.Traced:
    """The train step of `launch.train`, traced.

    Raises:
      UserError: if the batch does not divide over the mesh.
    """
    check_batch(batch_size, config.train.accumulate, mesh)
    state = jax.eval_shape(lambda: experiment.init_state(config.seed, config.train.steps))
    step = experiment.train_step(config, state, mesh)
    name, dtype = ("images", jnp.uint8)
    if experiment.autoencoder is not None:
        name, dtype = ("moments", jnp.float32)
    batch = {name: jax.ShapeDtypeStruct((batch_size, *experiment.example_shape), dtype)}
    if experiment.num_classes:
        batch["labels"] = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return step.trace(state, batch)


def trace_sampler(
    config: ConfigDict, experiment: Experiment, mesh: Mesh, count: int
) -> jax.stages.Traced:
    """The sampler of `count` samples at once, traced; latents are not decoded."""
    sampler = make_sampler(
        experiment.denoiser,
        experiment.objective,
        experiment.sampling,
        experiment.sample_shape,
        mesh,
        seed=config.seed,
        latents=experiment.autoencoder is not None,
    )
    params = jax.eval_shape(experiment.init_params, jax.random.key(0))
    params = abstract_like(params, experiment.sharding(params, mesh))

    def each(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((count, *shape), dtype, sharding=by_example(mesh))

    condition = Condition(
        labels=each(dtype=jnp.int32) if experiment.num_classes else None,
        frames=each(experiment.conditioning_frames, *experiment.sample_shape[1:])
        if experiment.conditioning_frames
        else None,
    )
    return sampler.program.trace(params, each(dtype=jnp.int32), condition, NOTHING)


def compile_for(traced: jax.stages.Traced, mesh: Mesh) -> Program | Excess:
    """Compiles for the devices of the mesh, which need not be there."""
    start = time.perf_counter()
    try:
        with cached_in(None):  # of absent devices jax writes programs that it cannot read
            compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not re.search("RESOURCE_EXHAUSTED.*HBM", str(error), re.I | re.S):
            raise
        return parse_excess(str(error))
    seconds = time.perf_counter() - start
    found = compiled.memory_analysis()
    memory = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "code": found.generated_code_size_in_bytes,
    }
    return Program(
        CHIPS[mesh.devices.flat[0].device_kind],
        mesh.size,
        memory,
        2 * sum(in_program(traced.jaxpr.jaxpr).values()),
        list(collectives(compiled.as_text(), mesh.size)),
        seconds,
    )


def parse_excess(message: str) -> Excess:
    """Of XLA's '... HLO temporaries (44.12G) exceeds available HBM (15.75G)', and of its like."""
    sizes = [
        float(size) * _UNITS[unit] for size, unit in re.findall(r"([\d.]+)([KMGT])\b", message)
    ]
    return Excess(*sizes[:2])
