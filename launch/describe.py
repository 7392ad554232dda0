"""Says what the network of a config costs, beside what its paper says.

    python -m launch.describe --config=configs/diffussm/imagenet256.py
    python -m launch.describe --all > docs/costs.md

Parameters by part, and multiply-adds (M: millions, G: billions) of one example, forward, without
guidance, counted in the traced program: those of matrix products and convolutions, and half the
operations of FFTs (1.25 n log2 n for a real one of length n). What a batch shares, as DiffuSSM's
kernels, is listed apart.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax.extend import core
from ml_collections import ConfigDict

from configs.catalogue import load, names, source
from configs.published import COSTS, Cost
from configs.variants import file_of
from diffusion_jax.console import say
from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.experiment.build import Experiment, build
from launch.common import cli


def parameters(experiment: Experiment) -> dict[str, int]:
    """Number of parameters of each top-level part of the network."""
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}


def multiply_adds(experiment: Experiment, batch_size: int) -> dict[str, float]:
    """{'matmul', 'fft'}: multiply-adds of one forward pass of a batch."""
    params = jax.eval_shape(experiment.init_params, jax.random.key(0))
    frames = experiment.conditioning_frames

    def forward(params, x, noise, condition):
        carry = experiment.denoiser.initial_carry(batch_size)
        return experiment.denoiser.apply({"params": params}, x, noise, condition, carry).output

    def shape(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((batch_size, *sizes), dtype)

    x = shape(*experiment.sample_shape)
    noise = NoiseLevel(shape(), shape(dtype=jnp.int32))
    condition = Condition(
        labels=shape(dtype=jnp.int32), frames=shape(frames, *x.shape[2:]) if frames else None
    )
    return in_program(jax.make_jaxpr(forward)(params, x, noise, condition).jaxpr)


def in_program(program: core.Jaxpr) -> dict[str, float]:
    """{'matmul', 'fft'}: multiply-adds of a traced program, on all devices together."""
    total = {"matmul": 0.0, "fft": 0.0}
    for times, equation in _equations(program, 1):
        match equation.primitive.name:
            case "dot_general":
                total["matmul"] += times * _of_matmul(equation)
            case "conv_general_dilated":
                total["matmul"] += times * _of_convolution(equation)
            case "fft":
                total["fft"] += times * _of_fft(equation)
    return total


def _equations(program: core.Jaxpr, times: int) -> Iterator[tuple[int, core.JaxprEqn]]:
    """Every equation and how often it runs: once a step of a scan, once a device of a shard_map."""
    for equation in program.eqns:
        yield times, equation
        match equation.primitive.name:
            case "scan":
                steps = equation.params["length"]
            case "shard_map":
                steps = equation.params["mesh"].size
            case _:
                steps = 1
        for part in core.jaxprs_in_params(equation.params):
            yield from _equations(part, times * steps)


def _of_matmul(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left.shape[i] for i in contracted)


def _of_convolution(equation: core.JaxprEqn) -> int:
    """Of a direct one, that multiplies what it pads too."""
    kernel = equation.invars[1].aval.shape
    outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs


def _of_fft(equation: core.JaxprEqn) -> float:
    """Half of 5 n log2 n operations; real transforms take half of a complex one's."""
    lengths = equation.params["fft_lengths"]
    real = [v.aval for v in (*equation.invars, *equation.outvars) if v.aval.dtype.kind == "f"]
    size = math.prod((real or [equation.outvars[0].aval])[0].shape)
    return size * 5 / 2 * math.log2(math.prod(lengths)) / (2 if real else 1)


def step_flops(experiment: Experiment, batch_size: int) -> float:
    """FLOPs of a train step: a multiply-add is two, and a backward pass twice a forward one.

    A pass that only makes what is carried counts once; what is computed again does not count.
    """
    has_carry = bool(jax.tree.leaves(experiment.denoiser.initial_carry(1)))
    carries = has_carry and experiment.objective.self_conditioning != "none"
    return 2.0 * (3 + carries) * sum(multiply_adds(experiment, batch_size).values())


class Costs(NamedTuple):
    """What a config costs.

    Attributes:
      parts: number of parameters of each top-level part of the network.
      each: {'matmul', 'fft'}: multiply-adds of one more example in a batch.
      shared: the same, of what the whole batch shares.
      state: bytes of the train state: parameters, EMA and two moments, float32.
    """

    parts: dict[str, int]
    each: dict[str, float]
    shared: dict[str, float]
    state: int

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())


def costs(experiment: Experiment) -> Costs:
    """Counts a config without computing or holding anything of its size."""
    one, two = (multiply_adds(experiment, batch) for batch in (1, 2))
    each = {name: two[name] - one[name] for name in one}
    shared = {name: one[name] - each[name] for name in one}
    state = jax.eval_shape(lambda: experiment.init_state(0, 1))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return Costs(parameters(experiment), each, shared, size)


def describe(found: Costs, published: Cost | None) -> str:
    """The table of one config, beside what the paper prints."""
    lines = [f"{name:20}{count / 1e6:>10.2f} M" for name, count in found.parts.items()]
    lines.append(f"{'parameters':20}{found.parameters / 1e6:>10.2f} M")
    if published:
        lines[-1] += f"    published {published.parameters:g} M"
    lines.append(f"{'train state':20}{found.state / 2**30:>10.2f} GiB")
    for name, each in found.each.items():
        line = f"{name:20}{each / 1e9:>10.2f} G"
        if name == "matmul" and published and published.multiply_adds:
            line += f"    published {published.multiply_adds:g} G"
        if shared := found.shared[name]:
            line += f"    and {shared / 1e9:.2f} G a batch"
        lines.append(line)
    if published and published.difference:
        lines.append(f"The difference: {published.difference}.")
    return "\n".join(lines)


def describe_all() -> str:
    """A row for every config, in Markdown."""
    lines = [
        "| config | parameters | published | multiply-adds | published | train state |",
        "|---|---|---|---|---|---|",
    ]
    for name in names():
        config = load(name)
        found, published = costs(build(config)), COSTS.get(name)
        printed = ("", "")
        if published:
            multiply_adds = published.multiply_adds
            printed = (f"{published.parameters:g}M", multiply_adds and f"{multiply_adds:g}G")
        cells = (
            f"[{name}](../{source(name)})",
            f"{found.parameters / 1e6:.2f}M",
            printed[0],
            f"{sum(found.each.values()) / 1e9:.2f}G",
            printed[1] or "",
            f"{found.state / 2**30:.2f} GiB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(config: ConfigDict, name: str) -> None:
    """Prints the table of the config of this name, as 'rin/cifar10'."""
    say(*describe(costs(build(config)), COSTS.get(file_of(name))).splitlines())


if __name__ == "__main__":
    CONFIG = cli.define_config()
    ALL = flags.DEFINE_bool("all", False, "Every config, as a table in Markdown.")
    flags.register_validator(
        "config",
        lambda config: config or flags.FLAGS["all"].value,
        message="give a config, or --all",
    )
    cli.run(
        lambda: (
            say(*describe_all().splitlines())
            if ALL.value
            else main(CONFIG.value, cli.config_name())
        ),
        __doc__,
    )
