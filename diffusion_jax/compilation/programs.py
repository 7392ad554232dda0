"""Programs compiled for devices that need not be there, and what they need of each chip.

The compiler needs a description of the devices, not the devices: `slices.slice_devices` gives
libtpu's description of a TPU slice, a mesh is made of it, and a program traced for that mesh is
compiled as it would be on the slice. The executable cannot run here, but it tells the memory of a
chip to the byte, and its text holds every collective. Three lower bounds on its time follow: from
the FLOPs, from the traffic to memory, and from the bytes that cross the links between chips.
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax

from diffusion_jax.compilation.cache import cached_in
from diffusion_jax.compilation.chips import CHIPS, Chip
from diffusion_jax.compilation.collectives import Collective, collectives
from diffusion_jax.compilation.costs import program_flops
from diffusion_jax.parallel.sharding import Mesh

TRIES = 6  # of `largest_batch`
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program needs.

    Attributes:
      chip, chips: what it runs on.
      memory: bytes on one chip, see `memory_of`.
      flops: of matrix products, convolutions and FFTs, on all chips together, including what
        `remat` computes again.
      collectives: what it sends between chips.
      seconds: that compiling it took.
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
        """Lower bounds on its time in seconds, by the resource that it waits for."""
        # Arguments are read and outputs written; temporaries are written and then read.
        traffic = self.needed - self.memory["code"] + self.memory["temporaries"]
        sent = sum(found.times * found.sent for found in self.collectives)
        return {
            "FLOPs": self.flops / self.chips / self.chip.flops,
            "HBM": traffic / self.chip.hbm_bandwidth,
            "links": sent / self.chip.link_bandwidth,
        }

    @property
    def bound(self) -> float:
        """The largest of the lower bounds on its time, in seconds."""
        return max(self.bounds.values())


@dataclasses.dataclass(frozen=True)
class Excess:
    """A program that does not fit: the bytes of a chip's memory that it needs, and that it has.

    The compiler stops at the first limit that it meets: the program may need more.
    """

    needed: float
    available: float


def compile_for(traced: jax.stages.Traced, mesh: Mesh) -> Program | Excess:
    """Compile a traced program for the devices of its mesh, which need not be there."""
    start = time.perf_counter()
    try:
        # JAX would write executables to its cache that it cannot read back without the devices.
        with cached_in(None):
            compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not re.search("RESOURCE_EXHAUSTED.*HBM", str(error), re.I | re.S):
            raise
        return parse_excess(str(error))
    return Program(
        CHIPS[mesh.devices.flat[0].device_kind],
        mesh.size,
        memory_of(compiled),
        program_flops(traced),
        list(collectives(compiled.as_text(), mesh.size)),
        time.perf_counter() - start,
    )


def memory_of(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Return the bytes that a program needs on one device.

    Returns:
      'arguments'; 'outputs', without those written over donated arguments; 'temporaries'; 'code'.
    """
    found: Any = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "code": found.generated_code_size_in_bytes,
    }


def parse_excess(message: str) -> Excess:
    """Read XLA's '... HLO temporaries (44.12G) exceeds available HBM (15.75G)', and its like."""
    found = re.findall(r"([\d.]+)([KMGT])\b", message)
    return Excess(*(float(size) * _UNITS[unit] for size, unit in found[:2]))


def largest_batch(
    attempt: Callable[[int], Program | Excess], batch_size: int, smallest: int
) -> int | None:
    """Return the largest batch that fits, of `batch_size` times powers of two; None if none does.

    Args:
      attempt: compiles for a batch size; it is called `TRIES` times at most.
      batch_size: the first to try.
      smallest: every batch is a multiple of it.
    """
    fits, refused = None, False
    for _ in range(TRIES):
        result = attempt(batch_size)
        if isinstance(result, Program):
            fits = batch_size
            if refused:
                break
            batch_size *= 2
        elif fits:
            break
        else:
            # Memory shrinks no faster than the batch, so that many halvings are needed at least.
            refused = True
            halvings = max(1, math.ceil(math.log2(result.needed / result.available)))
            batch_size, rest = divmod(batch_size, 2**halvings)
            if rest or not batch_size or batch_size % smallest:
                break
    return fits
