"""Timing programs in turn, beside what the device can do at most."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.compilation.cache import cached_in


class Compiled(NamedTuple):
    """A program, ready to run.

    Attributes:
      call: the arguments -> results.
      seconds: that tracing and compiling took, and the same once more, out of jax's cache.
      memory: bytes on a device at most: arguments, results not written over them, temporaries.
    """

    call: Callable
    seconds: tuple[float, float]
    memory: int


class Spread(NamedTuple):
    """Of repeated measurements."""

    median: float
    lowest: float
    highest: float


def spread(values: list[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(statistics.median(values), min(values), max(values))


def compile_program(function: Callable, *arguments: Any) -> Compiled:
    """Compiles a function, jitted or not, for arrays or shapes like these."""
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    seconds = []
    with tempfile.TemporaryDirectory() as folder, cached_in(folder):
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            call = jitted.lower(*arguments).compile()
            seconds.append(time.perf_counter() - start)
    found = call.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    memory = found.argument_size_in_bytes + results + found.temp_size_in_bytes
    return Compiled(call, tuple(seconds), memory)


def in_turn(
    calls: Mapping[str, Callable[[], Any]], seconds: float, rounds: int = 5
) -> dict[str, list[float]]:
    """Seconds of each call: of one of each, then again, so that all see the same machine.

    Args:
      calls: each returns when its work is done; it is called twice first, unmeasured.
      seconds: to go on for, for each, after at least `rounds`.
    """
    for call in calls.values():
        call(), call()
    taken = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(taken.values()))) < rounds:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return taken


def ratios(taken: Mapping[str, list[float]], base: str) -> dict[str, Spread]:
    """How many times as fast as `base` each was, round by round."""
    return {
        name: spread([b / own for b, own in zip(taken[base], times, strict=True)])
        for name, times in taken.items()
    }


class Ceilings(NamedTuple):
    """What the device of this process reached on the plainest of programs.

    Attributes:
      flops: of a large matmul, per second, a multiply-add being two; by dtype name.
      bandwidth: bytes per second, read and written, of adding one to a large array.
    """

    flops: dict[str, float]
    bandwidth: float


def measure_ceilings(dtypes: tuple[str, ...], seconds: float) -> Ceilings:
    """Measures both."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    flops = {}
    for dtype in dtypes:
        matrix = jnp.ones((size, size), dtype)
        multiply = jax.jit(jnp.matmul)
        taken = in_turn({"": lambda m=matrix, f=multiply: f(m, m).block_until_ready()}, seconds)
        flops[dtype] = 2 * size**3 / min(taken[""])
    values = jnp.ones((2**26,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    taken = in_turn({"": lambda: add(values).block_until_ready()}, seconds)
    return Ceilings(flops, 2 * values.nbytes / min(taken[""]))
