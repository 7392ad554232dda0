"""What a compiled program sends between devices, read in its HLO.

Nothing in a jaxpr communicates: XLA's partitioner decides, from the shardings, which arrays to
gather and which sums to reduce, and writes its decisions as instructions of the optimised program,

    %sum = f32[1024,64] all-reduce(%g), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add

Counting those shows whether a mesh does what it should: parameters and gradients may travel,
activations may not (tests/diffussm_jax/test_sharding.py), and their bytes bound the time of a step.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_NAMES = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
_COLLECTIVE = re.compile(rf"= (?P<shapes>.*?) (?P<name>{_NAMES})(?P<start>-start)?\((?P<rest>.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One instruction.

    Attributes:
      name: 'all-reduce', 'all-gather', ...
      shapes: shapes of its results, as HLO writes them.
      rest: the rest of its line: operands and attributes.
      times: how often it runs, loops counted.
      size: bytes of its results on one device.
      group: number of devices that take part together.
    """

    name: str
    shapes: str
    rest: str
    times: int
    size: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends at least, every time.

        Of n devices in a ring each passes on a part of 1/n in n - 1 turns. An all-reduce does so
        twice: partial sums first, then the finished parts. The result of a reduce-scatter is one
        part; those of the others are the whole.
        """
        part = self.size / self.group
        match self.name:
            case "all-reduce":
                return 2 * (self.group - 1) * part
            case "reduce-scatter":
                return (self.group - 1) * self.size
            case "collective-permute" | "collective-broadcast":
                return self.size
        return (self.group - 1) * part


def collectives(hlo: str, devices: int) -> Iterator[Collective]:
    """Yield every collective in the text of an optimised program, for so many devices."""
    computations, entry = _computations(hlo)

    def walk(name: str, times: int) -> Iterator[Collective]:
        """Those of a computation and of what it calls: loops, branches, fusions."""
        for line in computations[name]:
            if found := _COLLECTIVE.search(line):
                shapes, rest = found["shapes"], found["rest"]
                results = _sizes(shapes)
                if found["start"] and found["name"] in ("all-gather", "collective-permute"):
                    # An asynchronous one returns its operands, its results, and its own scalars.
                    arrays = _sizes(re.sub(r"\w+\[\]", "", shapes))
                    results = arrays[len(arrays) // 2 :]
                group = _group(rest, devices)
                yield Collective(found["name"], shapes, rest, times, sum(results), group)
                continue
            inside = times * (_trips(line, computations) if " while(" in line else 1)
            branches = " ".join(_BRANCHES.findall(line))
            for other in (*_CALLED.findall(line), *re.findall(r"[\w.\-]+", branches)):
                yield from walk(other, inside)

    yield from walk(entry, 1)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Split a program: lines of each computation by its name, and the name of the first to run."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    """How often a loop runs.

    XLA notes it for most loops; elsewhere it is the constant that the counter is compared with.
    """
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(noted[1])
    (condition,) = re.findall(r"condition=%?([\w.\-]+)", line)
    text = "\n".join(computations[condition])
    return max((int(n) for n in re.findall(r"= s32\[\]\S* constant\((\d+)\)", text)), default=1)


def _sizes(shapes: str) -> list[int]:
    """Bytes of each array in 'f32[8,64]', or in a tuple of such shapes."""
    return [
        math.prod(int(size) for size in dimensions.split(",") if size) * max(int(bits or 8) // 8, 1)
        for _, bits, dimensions in _ARRAY.findall(shapes)
    ]


def _group(rest: str, devices: int) -> int:
    """Number of devices in a replica group: of {{0,1},{2,3}}, of [2,2]<=[4], or all of them."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    return devices
