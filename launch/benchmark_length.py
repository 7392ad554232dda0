"""Times DiffuSSM's sequence mixing beside dense attention, over the length of the sequence.

    python -m launch.benchmark_length --out=docs/long_sequences
    python -m launch.benchmark_length --lengths=1024,4096 --dim=128 --out=/tmp/mine
    python -m launch.benchmark_length --blocks --lengths=4096 --dim=384 --out=docs/benchmarks/blocks

One layer on one example of `dim` channels in float32: the bidirectional state space layer (kernels,
convolution, skip), by FFT and in chunks, and attention in heads of 64 channels
(jax.nn.dot_product_attention, without projections). Or whole blocks of that many tokens: DiffuSSM's
with M tokens to a position, and a transformer's with an MLP four times as wide, its attention by
einsums and by jax.nn.dot_product_attention. Forward, and gradient of inputs and parameters, called
in turn at each length; the median, with the lowest and highest. Writes OUT.md, OUT.json, OUT.png.
"""

from launch.common import arguments, cli

import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from flax import linen as nn

from diffusion_jax.benchmarks.phases import layer_program
from diffusion_jax.benchmarks.plots import plot_lengths
from diffusion_jax.benchmarks.results import Table, device_name
from diffusion_jax.benchmarks.timing import measure
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.files import write_atomically
from diffussm_jax import BidirectionalSSM, DiffuSSMBlock
from rin_jax.block import ProcessLayer

HEAD = 64  # channels of a head of attention
AVAILABLE = 0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes for a program
Layers = dict[str, tuple[nn.Module, int]]  # name -> (layer, positions of its input)


class Attention(nn.Module):
    """Dense attention of a sequence (B, L, D) to itself, without projections."""

    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        heads = u.reshape(*u.shape[:2], -1, HEAD)
        return jax.nn.dot_product_attention(heads, heads, heads).reshape(u.shape)


def mixers(length: int, dim: int) -> Layers:
    """Return the ways to mix a sequence."""
    forms = {"FFT": "fft", "chunked": "chunked"}
    made = {name: (BidirectionalSSM(form=form), length) for name, form in forms.items()}
    return made | {"attention": (Attention(), length)}


def blocks(length: int, dim: int) -> Layers:
    """Return whole blocks, for inputs of `dim` channels."""
    made = {f"DiffuSSM, M = {m}": (DiffuSSMBlock(m), length // m) for m in (1, 2)}
    for form in ("einsum", "xla"):
        layer = ProcessLayer(dim // HEAD, 4, form=form)
        made[f"attention, {form}"] = (layer, length)
    return made


KINDS = {"forward": False, "gradient": True}  # and whether there is a gradient


def run(
    make: Callable[[int, int], Layers], lengths: list[int], dim: int, seconds: float, title: str
) -> tuple[Table, list[dict]]:
    """Measure the layers of `make`, a row for each length, and a record for each cell."""
    columns = [f"{mixer}, {kind}" for mixer in make(lengths[0], dim) for kind in KINDS]
    table, mesh = Table(title, ["L", *columns]), make_mesh(1)
    records: list[dict] = []
    for length in lengths:
        programs = {
            (name, label): layer_program(layer, (1, positions, dim), "float32", mesh, gradient)
            for name, (layer, positions) in make(length, dim).items()
            for label, gradient in KINDS.items()
        }
        fitting = {name: each for name, each in programs.items() if each.memory <= AVAILABLE}
        found = {each.name: each.milliseconds for each in measure([("", fitting)], seconds)}
        shown = (f"{found[name]:.1f}" if name in found else "does not fit" for name in programs)
        table.add(f"{length:,}", *shown)
        for mixer, label in programs:
            time = found[mixer, label]._asdict() if (mixer, label) in found else None
            records.append(dict(length=length, mixer=mixer, run=label, milliseconds=time))
    return table, records


def main() -> None:
    """Measure, and write the table, the records and the picture."""
    options, out = flags.FLAGS, Path(flags.FLAGS.out)
    if options.dim % HEAD:
        raise UserError(f"--dim is {options.dim}: give a multiple of {HEAD}, a head of attention")
    make = blocks if options.blocks else mixers
    title = f"Milliseconds, D = {options.dim}, one example, float32, on {device_name()}"
    table, records = run(make, options.lengths, options.dim, options.seconds, title)
    table.write(out, dict(title=title, records=records))
    write_atomically(out.with_suffix(".png"), lambda path: plot_lengths(records, title, path))
    say(f"Written: {out}.md, {out}.json, {out}.png")


if __name__ == "__main__":
    default = ",".join(str(2**power) for power in range(8, 17))
    arguments.counts("lengths", default, "Lengths, with commas.")
    arguments.count("dim", 64, "Channels D, a multiple of 64.")
    flags.DEFINE_bool("blocks", False, "Times whole blocks, not the mixing alone.")
    arguments.number("seconds", 3.0, "How long to repeat each measurement.", at_least=0)
    arguments.path("out", None, "Path of the files to write, without suffix.", required=True)
    cli.run(main, __doc__)
