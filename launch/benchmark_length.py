"""Times DiffuSSM's sequence mixing beside dense attention, over the length of the sequence.

    python -m launch.benchmark_length --out=docs/long_sequences
    python -m launch.benchmark_length --lengths=1024,4096 --dim=128 --out=/tmp/mine
    python -m launch.benchmark_length --blocks --lengths=4096 --dim=384 --out=docs/benchmarks/blocks

One layer on one example of `dim` channels in float32: the bidirectional state space layer (kernels,
convolution, skip), by FFT and in chunks, and attention in heads of 64 channels
(jax.nn.dot_product_attention, without projections). Or whole blocks of that many tokens: DiffuSSM's
with M tokens to a position, and a transformer's with an MLP four times as wide, its attention by
einsums and by jax.nn.dot_product_attention. Forward, and gradient of inputs and parameters; the
median of repeated calls, with the lowest and highest. Writes OUT.md, OUT.json and OUT.png.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from diffusion_jax.benchmarks.timing import in_turn, spread
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import write_atomically
from diffussm_jax import BidirectionalSSM, DiffuSSMBlock
from launch.benchmark import device_name, write_table
from launch.common import arguments, cli
from rin_jax.block import ProcessLayer

HEAD = 64
FORMS = {"FFT": "fft", "chunked": "chunked"}


def mixers(length: int, dim: int) -> dict[str, tuple[Callable, tuple]]:
    """Name -> (function, arguments) of each way to mix a sequence."""
    u = jax.random.normal(jax.random.key(0), (1, length, dim))
    made = {}
    for name, form in FORMS.items():
        layer = BidirectionalSSM(form=form)
        params = jax.jit(layer.init)(jax.random.key(1), u[:, :16])
        made[name] = (layer.apply, (params, u))
    heads = u.reshape(1, length, -1, HEAD)
    made["attention"] = (jax.nn.dot_product_attention, (heads, heads, heads))
    return made


def blocks(length: int, dim: int) -> dict[str, tuple[Callable, tuple]]:
    """Name -> (function, arguments) of whole blocks, as `mixers`."""
    x = jax.random.normal(jax.random.key(0), (1, length, dim))
    made = {f"DiffuSSM, M = {m}": (DiffuSSMBlock(m), x[:, : length // m]) for m in (1, 2)}
    for form in ("einsum", "xla"):
        layer = ProcessLayer(dim // HEAD, 4, form=form)
        made[f"attention, {form}"] = (layer, x)
    return {
        name: (block.apply, (jax.jit(block.init)(jax.random.key(1), x[:, :16]), x))
        for name, (block, x) in made.items()
    }


def measure(function: Callable, arguments: tuple, seconds: float) -> dict[str, float] | None:
    """Milliseconds per call: median, lowest and highest; None where it does not fit in memory."""
    compiled = jax.jit(function).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes
    if needed > 0.6 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return None
    (times,) = in_turn({"": lambda: jax.block_until_ready(compiled(*arguments))}, seconds).values()
    return spread([1e3 * time for time in times])._asdict()


def gradient(function: Callable, count: int) -> Callable:
    """The gradient of the sum of squares in all `count` arguments."""

    def loss(*arguments):
        return jnp.square(jax.tree.leaves(function(*arguments))[0]).sum()

    return jax.grad(loss, argnums=tuple(range(count)))


def run(make: Callable, lengths: list[int], dim: int, seconds: float) -> list[dict]:
    """One record per length, mixer of `make` and pass."""
    records = []
    for length in lengths:
        for name, (function, inputs) in make(length, dim).items():
            for label, timed in (
                ("forward", function),
                ("gradient", gradient(function, len(inputs))),
            ):
                found = measure(timed, inputs, seconds)
                records.append(dict(length=length, mixer=name, run=label, milliseconds=found))
                say(f"{length:>7} {name:17} {label:9} {_cell(found)}")
    return records


def _cell(found: dict[str, float] | None) -> str:
    if found is None:
        return "does not fit"
    return f"{found['median']:.1f} ({found['lowest']:.1f} to {found['highest']:.1f})"


def table(records: list[dict], title: str) -> str:
    """The records as Markdown, a row per length."""
    columns = list(dict.fromkeys((r["mixer"], r["run"]) for r in records))
    cells = {(r["length"], r["mixer"], r["run"]): _cell(r["milliseconds"]) for r in records}
    lines = [title, "", "| L | " + " | ".join(f"{m}, {run}" for m, run in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for length in dict.fromkeys(r["length"] for r in records):
        row = " | ".join(cells[(length, *column)] for column in columns)
        lines.append(f"| {length:,} | {row} |")
    return "\n".join(lines) + "\n"


def plot(records: list[dict], title: str, path: Path) -> None:
    """The medians on logarithmic axes; solid is forward, dashed the gradient."""
    from matplotlib.figure import Figure  # imported here: it takes a second

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, mixer in enumerate(dict.fromkeys(r["mixer"] for r in records)):
        for label, style in (("forward", "-"), ("gradient", "--")):
            points = [
                (r["length"], r["milliseconds"]["median"])
                for r in records
                if r["mixer"] == mixer and r["run"] == label and r["milliseconds"]
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=f"C{number}",
                    marker="o",
                    ms=3,
                    label=f"{mixer}, {label}",
                )
    axes.set(xscale="log", yscale="log", xlabel="length L", ylabel="ms per example")
    axes.set_title(title, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130, format="png")


def main(options: flags.FlagValues) -> None:
    """Measures, and writes the table, the records and the picture."""
    if options.dim < HEAD or options.dim % HEAD:
        raise UserError(f"--dim is {options.dim}: give a multiple of {HEAD}, a head of attention")
    out = Path(options.out)
    records = run(
        blocks if options.blocks else mixers, options.lengths, options.dim, options.seconds
    )
    title = f"Milliseconds, D = {options.dim}, one example, float32, on {device_name()}"
    content = json.dumps(dict(title=title, records=records), indent=1)
    write_table(out, table(records, title), content)
    write_atomically(out.with_suffix(".png"), lambda path: plot(records, title, path))
    say(f"Written: {out}.md, {out}.json, {out}.png")


if __name__ == "__main__":
    default = ",".join(str(2**power) for power in range(8, 17))
    arguments.counts("lengths", default, "Lengths, with commas.")
    arguments.count("dim", 64, "Channels D, a multiple of 64.")
    flags.DEFINE_bool("blocks", False, "Times whole blocks, not the mixing alone.")
    arguments.number("seconds", 3.0, "How long to repeat each measurement.", at_least=0)
    arguments.path("out", None, "Path of the files to write, without suffix.", required=True)
    cli.run(lambda: main(flags.FLAGS), __doc__)
