"""The benchmark harness: groups of programs, timed in turn, beside what the device can do at most.

A benchmark is a table of groups, {group: {name: program}}, whose programs do the same work in
different ways. `measure` times each group:

- Each program is called twice unmeasured. The first calls touch new memory and fill caches.
- Then one call of each, and again one of each: the speed of a machine drifts, most of all of a
  virtual one, and programs that take turns drift together.
- Every call waits for its results (`jax.block_until_ready`): JAX returns before they are computed.
- The median is reported with the lowest and highest, and ratios are taken round by round.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Spread(NamedTuple):
    """Repeated measurements in three numbers; f"{spread:.1f}" is '2.0 (1.0 to 4.0)'."""

    median: float
    lowest: float
    highest: float

    def __format__(self, spec: str) -> str:
        median, lowest, highest = (format(value, spec) for value in self)
        return f"{median} ({lowest} to {highest})"


@dataclasses.dataclass(frozen=True)
class Runnable:
    """One program, ready to be timed.

    Attributes:
      call: runs it once, and returns when its work is done.
      examples: that one call computes.
      flops: FLOPs of the model in one call; 0 where they are not the point.
      dtype: dtype of its matrix products.
      moved: bytes that it must read and write at least; None where they are not the point.
      memory: bytes that it needs on a device; 0 for what is not compiled.
      compile_seconds: seconds to compile it, and to take it from JAX's cache.
    """

    call: Callable[[], Any]
    examples: int = 1
    flops: float = 0.0
    dtype: str = "float32"
    moved: float | None = None
    memory: int = 0
    compile_seconds: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one program.

    Attributes:
      group, name, program: its place in the table.
      seconds: of each call.
      first: seconds of the calls of the first program of the group, in the same rounds.
    """

    group: str
    name: Any
    program: Runnable
    seconds: list[float]
    first: list[float]

    @property
    def milliseconds(self) -> Spread:
        """Milliseconds of a call."""
        return spread([1e3 * seconds for seconds in self.seconds])

    @property
    def times_as_fast(self) -> Spread:
        """How many times as fast as the first program of its group it is."""
        return ratio(self.first, self.seconds)

    def record(self, ceilings: "Ceilings") -> dict[str, Any]:
        """Return what is written of it, with its share of what the device reached."""
        program, median = self.program, statistics.median(self.seconds)
        rate = program.flops / median
        return {
            "phase": self.group,
            "value": self.name,
            "milliseconds": self.milliseconds._asdict(),
            "images_per_second": program.examples / median,
            "gflops": rate / 1e9,
            "of_matmul": rate / ceilings.flops[program.dtype],
            "of_memory": program.moved and program.moved / median / ceilings.bandwidth,
            "memory": program.memory,
            "compile_seconds": program.compile_seconds,
            "times_as_fast": self.times_as_fast._asdict(),
        }


def measure(
    groups: Iterable[tuple[str, Mapping[Any, Runnable]]], seconds: float
) -> Iterator[Measured]:
    """Time the programs of each group in turn, and yield what was measured of each.

    Args:
      groups: may be a generator, which makes the programs of a group when its turn comes.
      seconds: how long to go on with each program, after five calls.
    """
    for group, programs in groups:
        taken = in_turn({name: program.call for name, program in programs.items()}, seconds)
        first = next(iter(taken.values()), [])
        for name, times in taken.items():
            yield Measured(group, name, programs[name], times, first)


def in_turn(
    calls: Mapping[str, Callable[[], Any]], seconds: float, rounds: int = 5
) -> dict[str, list[float]]:
    """Return the seconds of each call, made in turn after two that are not measured.

    Args:
      calls: each returns when its work is done.
      seconds: how long to go on, for each call, after at least `rounds`.
    """
    for call in calls.values():
        call(), call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end, done = time.perf_counter() + seconds * len(calls), 0
    while calls and (done < rounds or time.perf_counter() < end):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
        done += 1
    return taken


def waiting(function: Callable, *arguments: Any) -> Callable[[], Any]:
    """Return a call of a JAX function that ends when its results have been computed."""
    return lambda: jax.block_until_ready(function(*arguments))


def spread(values: list[float]) -> Spread:
    """Return the median, the lowest and the highest."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(numerators: list[float], denominators: list[float]) -> Spread:
    """Return the ratios of two programs' times, round by round."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


class Ceilings(NamedTuple):
    """What this process's device reached on the plainest of programs.

    Attributes:
      flops: FLOP/s of a large matmul, by dtype.
      bandwidth: bytes per second, read and written, of adding one to a large array.
    """

    flops: dict[str, float]
    bandwidth: float


def measure_ceilings(dtypes: Iterable[str], seconds: float) -> Ceilings:
    """Measure both: a product of large matrices is all arithmetic, adding one is all memory."""
    size = 2048 if jax.default_backend() == "cpu" else 8192

    def fastest(function: Callable, *arguments: jax.Array) -> float:
        return min(in_turn({"": waiting(jax.jit(function), *arguments)}, seconds)[""])

    flops = {}
    for dtype in dtypes:
        matrix = jnp.ones((size, size), dtype)
        flops[dtype] = 2 * size**3 / fastest(jnp.matmul, matrix, matrix)
    values = jnp.ones((2**26,), jnp.float32)
    return Ceilings(flops, 2 * values.nbytes / fastest(lambda x: x + 1, values))
