"""Parameters and FLOPs of a network, counted in its traced programs.

A jaxpr is a list of equations such as

    c:f32[8,64] = dot_general[dimension_numbers=(([1], [0]), ([], []))] a b

with the shapes of all operands, so the work of each can be computed without running it. Counting
there, and not in a formula per network, holds for any network, counts what `remat` computes again,
and keeps loops: XLA's own `cost_analysis` counts the body of a loop once, however often it runs.

Matrix products, convolutions and FFTs are counted; elementwise operations are not, as in the
papers, because they cost memory traffic and hardly any arithmetic. A multiply-add is two FLOPs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

from diffusion_jax.compilation import jobs
from diffusion_jax.experiment.build import Experiment


class Costs(NamedTuple):
    """What a config costs.

    Attributes:
      parts: number of parameters of each top-level part of the network.
      each: {'matmul', 'fft'}: multiply-adds of one more example in a batch.
      shared: the same, for what is computed once for the whole batch.
      state: bytes of the train state: parameters, EMA and two moments, float32.
    """

    parts: dict[str, int]
    each: dict[str, float]
    shared: dict[str, float]
    state: int

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(self.parts.values())


def costs(experiment: Experiment) -> Costs:
    """Count what a config costs, without computing or holding anything of its size."""
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    parts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes.items()
    }
    # Work grows as shared + batch * each: two batches tell the terms apart.
    one, two = (multiply_adds(experiment, batch) for batch in (1, 2))
    each = {name: two[name] - one[name] for name in one}
    shared = {name: one[name] - each[name] for name in one}
    return Costs(parts, each, shared, state_bytes(experiment))


def state_bytes(experiment: Experiment) -> int:
    """Return the bytes of the train state on all devices together."""
    return tree_bytes(jax.eval_shape(lambda: experiment.init_state(0, 1)))


def tree_bytes(tree: Any) -> int:
    """Return the bytes of a tree of arrays or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def multiply_adds(experiment: Experiment, batch_size: int) -> dict[str, float]:
    """Return {'matmul', 'fft'}: multiply-adds of one forward pass of a batch."""
    return in_program(jobs.forward(experiment, batch_size).trace().jaxpr.jaxpr)


def step_flops(experiment: Experiment, batch_size: int) -> float:
    """Return the FLOPs of the model in a train step, whatever its program computes again.

    A backward pass does twice the work of a forward pass: each product y = W x needs the gradients
    of W and of x, which are products of the same size. So a step is 3 forward passes, and 4 where
    a pass without gradient makes the carried latents (self-conditioning).
    """
    has_carry = bool(jax.tree.leaves(experiment.denoiser.initial_carry(1)))
    carries = has_carry and experiment.objective.self_conditioning != "none"
    return 2.0 * (3 + carries) * sum(multiply_adds(experiment, batch_size).values())


def program_flops(traced: jax.stages.Traced) -> float:
    """Return the FLOPs of a program on all devices together, including what it computes twice."""
    return 2.0 * sum(in_program(traced.jaxpr.jaxpr).values())


def in_program(program: core.Jaxpr) -> dict[str, float]:
    """Return {'matmul', 'fft'}: multiply-adds of a traced program, on all devices together."""
    total = {"matmul": 0.0, "fft": 0.0}
    for times, equation in _equations(program, 1):
        if count := _COUNTED.get(equation.primitive.name):
            kind, work = count
            total[kind] += times * work(equation)
    return total


def _equations(program: core.Jaxpr, times: int) -> Iterator[tuple[int, core.JaxprEqn]]:
    """Every equation, and how often it runs: once a step of a scan, once a device of a shard_map.

    Inside a `shard_map` shapes are those of one device's part; elsewhere they are global.
    """
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
    """Every element of the result sums over the contracted dimensions: (m, k)(k, n) is m n k."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, result = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return math.prod(result) * math.prod(left[i] for i in contracted)


def _of_convolution(equation: core.JaxprEqn) -> int:
    """Every output sums over the kernel's window and input channels, in the padding too."""
    kernel, result = _shape(equation.invars[1]), _shape(equation.outvars[0])
    outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(result) * math.prod(kernel) // outputs


def _of_fft(equation: core.JaxprEqn) -> float:
    """A complex transform takes 5 n log2 n operations, 2.5 n log2 n multiply-adds; a real one half.

    The sizes are those of the real side, where there is one: the other holds n / 2 + 1 numbers.
    """
    both: list[Any] = [*equation.invars, *equation.outvars]
    real = [variable for variable in both if variable.aval.dtype.kind == "f"]
    size = math.prod(_shape((real or both)[0]))
    length = math.prod(equation.params["fft_lengths"])
    return size * 5 / 2 * math.log2(length) / (2 if real else 1)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


# Primitive -> (kind of work, multiply-adds of an equation).
_COUNTED: dict[str, tuple[str, Callable[[core.JaxprEqn], float]]] = {
    "dot_general": ("matmul", _of_matmul),
    "conv_general_dilated": ("matmul", _of_convolution),
    "fft": ("fft", _of_fft),
}
