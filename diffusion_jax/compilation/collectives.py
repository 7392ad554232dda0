"""What a compiled program sends between devices, read in its HLO."""

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
      shapes: of its results, as HLO writes them.
      rest: of its line: operands and attributes.
      times: that it runs, loops counted.
      size: bytes of its results on one device.
      group: devices that take part together.
    """

    name: str
    shapes: str
    rest: str
    times: int
    size: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends at least, every time: those of a ring."""
        others = (self.group - 1) / self.group
        match self.name:
            case "all-reduce":
                return 2 * others * self.size
            case "reduce-scatter":
                return (self.group - 1) * self.size
            case "collective-permute" | "collective-broadcast":
                return self.size
        return others * self.size


def collectives(hlo: str, devices: int) -> Iterator[Collective]:
    """Every collective of an optimised program's text, for so many devices."""
    computations, entry = _computations(hlo)

    def walk(name: str, times: int) -> Iterator[Collective]:
        for line in computations[name]:
            if found := _COLLECTIVE.search(line):
                shapes, rest = found["shapes"], found["rest"]
                results = _sizes(shapes)
                if found["start"] and found["name"] in ("all-gather", "collective-permute"):
                    # It returns its operands, its results, and scalars of its own.
                    arrays = _sizes(re.sub(r"\w+\[\]", "", shapes))
                    results = arrays[len(arrays) // 2 :]
                group = _group(rest, devices)
                yield Collective(found["name"], shapes, rest, times, sum(results), group)
                continue
            inside = times * (_trips(line, computations) if " while(" in line else 1)
            called = _CALLED.findall(line)
            for branches in _BRANCHES.findall(line):
                called += re.findall(r"[\w.\-]+", branches)
            for other in called:
                yield from walk(other, inside)

    yield from walk(entry, 1)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Lines of each computation by its name, and the name of the first to run."""
    computations, entry, lines = {}, "", []
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    """How often a loop runs: noted by XLA, or the constant that its counter is compared with."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)[1]
    text = "\n".join(computations[condition])
    return max((int(n) for n in re.findall(r"= s32\[\]\S* constant\((\d+)\)", text)), default=1)


def _sizes(shapes: str) -> list[int]:
    """Bytes of each array in a shape or a tuple of them."""
    return [
        math.prod(int(size) for size in dimensions.split(",") if size) * max(int(bits or 8) // 8, 1)
        for _, bits, dimensions in _ARRAY.findall(shapes)
    ]


def _group(rest: str, devices: int) -> int:
    """Devices in a replica group: {{0,1},{2,3}}, [2,2]<=[4], or all."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    return devices
