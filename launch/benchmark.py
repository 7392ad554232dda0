"""Times what a config runs: train step, forward pass, reverse step, sequence layer, reading data.

    python -m launch.benchmark --config=configs/rin/cifar10.py --config.train.batch_size=8
    python -m launch.benchmark --config=configs/diffussm/imagenet256.py --phases=train,ssm \\
      --config.train.batch_size=8 --vary=model.remat=none,dots,full --out=docs/benchmarks/xl_remat
    python -m launch.benchmark --config=configs/rin/cifar10.py --vary=model.dtype=float32,bfloat16
    python -m launch.benchmark --config=configs/rin/cifar10.py --vary=model.unroll=False,True
    python -m launch.benchmark --config=configs/rin/cifar10.py --vary=model.attention=einsum,xla

Each program is compiled, called twice, then timed for --seconds, waiting for its results: the
median, with the lowest and highest. --vary takes the values of a field in turn, call by call, and
adds how many times as fast as the first each is. Beside the times stand what the device reached in
the same run on a large matmul and on a large copy: `of matmul` is the FLOPs of the model (nothing
that is computed again) over the first, `of memory` the bytes that a sequence layer must move over
the second. Writes OUT.json and OUT.md.

launch.benchmark_length times sequence layers by length, launch.benchmark_peers other people's code,
launch.benchmark_data the reading of images.
"""

from launch.common import arguments, cli

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.phases import groups, phase_names
from diffusion_jax.benchmarks.results import Table, device_name
from diffusion_jax.benchmarks.timing import Ceilings, Spread, measure, measure_ceilings
from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.console import say
from diffusion_jax.experiment.networks import find_network
from diffusion_jax.fields import Choice, Each

PHASES = phase_names(find_network(name).denoiser for name in ("rin", "diffussm"))
COLUMNS = (
    *("program", "milliseconds", "times as fast", "images/s", "GFLOP/s"),
    *("of matmul", "of memory", "GiB", "compiled in s", "from cache"),
)


def row(found: dict) -> list[str]:
    """Return the cells of a record, empty where it has no such number."""
    compiled, cached = found["compile_seconds"]
    numbers = [
        *((found["images_per_second"], ",.4g"), (found["gflops"], ",.0f")),
        *((found["of_matmul"], ".0%"), (found["of_memory"], ".0%")),
        *((found["memory"] / 2**30, ".2f"), (compiled, ".1f"), (cached, ".1f")),
    ]
    return [
        f"{found['phase']} {found['value']}".strip(),
        f"{Spread(**found['milliseconds']):.4g}",
        f"{Spread(**found['times_as_fast']):.2f}",
        *(format(value, spec) if value else "" for value, spec in numbers),
    ]


def run(
    configs: dict[str, ConfigDict], phases: list[str], seconds: float, title: str
) -> tuple[Table, list[dict], Ceilings]:
    """Measure every phase of every config, printing the table as it grows."""
    table = Table(title, COLUMNS)
    dtypes = {config.model.dtype for config in configs.values()} | {"float32"}
    ceilings = measure_ceilings(sorted(dtypes), seconds)
    records = []
    for found in measure(groups(phases, configs), seconds):
        records.append(found.record(ceilings))
        table.add(*row(records[-1]))
    return table, records, ceilings


def main(config: ConfigDict, name: str) -> None:
    """Measure, print and write the table."""
    options = flags.FLAGS
    configs = variants(config, options.vary)
    title = f"{name}, batch {config.train.batch_size}, {config.model.dtype}, on {device_name()}"
    title += f"; {options.vary}:" if options.vary else ":"
    table, records, ceilings = run(configs, options.phases, options.seconds, title)
    reached = [f"{dtype} {flops / 1e9:,.0f} GFLOP/s" for dtype, flops in ceilings.flops.items()]
    foot = f"Large matmul: {', '.join(reached)}. Large copy: {ceilings.bandwidth / 1e9:,.1f} GB/s."
    say("", foot)
    if options.out:
        numbers: dict[str, Any] = dict(config=name, device=device_name(), command=cli.command())
        numbers |= dict(ceilings=ceilings._asdict(), records=records)
        table.write(Path(options.out), numbers, foot, f"    {cli.command()}")


if __name__ == "__main__":
    CONFIG = cli.define_config()
    phases = Each(Choice(tuple(PHASES)), fewest=1)
    arguments.define("phases", "train,forward,sampler", f"Of {', '.join(PHASES)}.", phases)
    flags.DEFINE_string("vary", None, "FIELD=VALUE,VALUE,...: a field of the config, in turn.")
    arguments.number(
        "seconds", 10.0, "To go on with each program; five calls at least.", at_least=0
    )
    arguments.path("out", None, "Writes OUT.json and OUT.md.")
    cli.run(lambda: main(CONFIG.value, cli.config_name()), __doc__)
