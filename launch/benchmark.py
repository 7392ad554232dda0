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

import json
import os
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.phases import PHASES, Phase
from diffusion_jax.benchmarks.timing import Ceilings, in_turn, measure_ceilings, ratios, spread
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.workdir import flatten
from diffusion_jax.fields import Choice, Each
from diffusion_jax.parallel.sharding import check_batch, make_mesh
from diffusion_jax.storage.files import write_atomically, writing
from launch.common import arguments, cli

COLUMNS = (
    *("program", "milliseconds", "times as fast", "images/s", "GFLOP/s"),
    *("of matmul", "of memory", "GiB", "compiled in s", "from cache"),
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def variants(config: ConfigDict, vary: str | None) -> dict[str, ConfigDict]:
    """{'' or 'full': config with that value of the field of 'model.remat=none,full'}.

    Raises:
      UserError: if `vary` is not so written, or the config has no such field.
    """
    if vary is None:
        return {"": config}
    name, equals, values = vary.partition("=")
    fields = flatten(config.to_dict())
    if not equals or name not in fields:
        raise UserError(f"--vary is {vary!r}: give a field of the config, as model.remat=none,full")
    made = {}
    for value in values.split(","):
        made[value] = config.copy_and_resolve_references()
        made[value].update_from_flattened_dict({name: _parsed(name, value, type(fields[name]))})
    return made


def _parsed(name: str, value: str, kind: type) -> Any:
    """`value` as what the field is."""
    if kind is bool and value in ("True", "False"):
        return value == "True"
    try:
        if kind in (int, float, str):
            return kind(value)
    except ValueError:
        pass
    raise UserError(f"--vary has {value!r}, which is no {kind.__name__}, as {name} is")


def record(name: str, value: str, phase: Phase, taken: list[float], ceilings: Ceilings) -> dict:
    """What was measured of one program, for the JSON."""
    time = spread(taken)
    return {
        "phase": name,
        "value": value,
        "milliseconds": {k: 1e3 * v for k, v in time._asdict().items()},
        "images_per_second": phase.examples / time.median,
        "gflops": phase.flops / time.median / 1e9,
        "of_matmul": phase.flops / time.median / ceilings.flops[phase.dtype],
        "of_memory": phase.moved and phase.moved / time.median / ceilings.bandwidth,
        "memory": phase.memory,
        "compile_seconds": phase.compile_seconds,
    }


def run(
    configs: dict[str, ConfigDict], phases: list[str], seconds: float
) -> tuple[Ceilings, list[dict]]:
    """Measures every phase of every variant."""
    experiments = {value: build(config) for value, config in configs.items()}
    dtypes = {config.model.dtype for config in configs.values()} | {"float32"}
    ceilings = measure_ceilings(tuple(sorted(dtypes)), seconds)
    records = []
    for name in phases:
        made = {}
        for value, config in configs.items():
            mesh = make_mesh(**config.mesh)
            check_batch(config.train.batch_size, config.train.accumulate, mesh)
            phase = PHASES[name](config, experiments[value], mesh)
            if phase is not None:
                made[value] = phase
        if not made:
            say(f"{name}: nothing of it in this config")
            continue
        taken = in_turn({value: phase.call for value, phase in made.items()}, seconds)
        speed = ratios(taken, next(iter(made)))
        for value, phase in made.items():
            found = record(name, value, phase, taken[value], ceilings)
            found["times_as_fast"] = speed[value]._asdict()
            records.append(found)
            say(row(found))
    return ceilings, records


def row(found: dict) -> str:
    """A row of the table."""
    time, speed = found["milliseconds"], found["times_as_fast"]
    cells = (
        f"{found['phase']} {found['value']}".strip(),
        f"{time['median']:.4g} ({time['lowest']:.4g} to {time['highest']:.4g})",
        f"{speed['median']:.2f} ({speed['lowest']:.2f} to {speed['highest']:.2f})",
        f"{found['images_per_second']:,.4g}",
        f"{found['gflops']:,.0f}" if found["gflops"] else "",
        f"{found['of_matmul']:.0%}" if found["gflops"] else "",
        f"{found['of_memory']:.0%}" if found["of_memory"] else "",
        f"{found['memory'] / 2**30:.2f}" if found["memory"] else "",
        *(f"{seconds:.1f}" if seconds else "" for seconds in found["compile_seconds"]),
    )
    return f"| {' | '.join(cells)} |"


def device_name() -> str:
    """'2 CPU cores', or the accelerators."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"{os.cpu_count()} CPU cores"
    return f"{jax.device_count()} x {device.device_kind}"


def write_table(out: Path, table: str, content: str) -> None:
    """OUT.md, and OUT.json with what the table is of."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".md", table), (".json", content + "\n")):
        write_atomically(out.with_suffix(suffix), lambda path, text=text: path.write_text(text))


def main(config: ConfigDict, name: str, options: flags.FlagValues) -> None:
    """Measures, prints and writes the table."""
    configs = variants(config, options.vary)
    title = f"{name}, batch {config.train.batch_size}, {config.model.dtype}, on {device_name()}"
    title += f"; {options.vary}" if options.vary else ""
    say(title, "", *HEAD.splitlines())
    ceilings, records = run(configs, options.phases, options.seconds)
    reached = ", ".join(
        f"{kind} {flops / 1e9:,.0f} GFLOP/s" for kind, flops in ceilings.flops.items()
    )
    foot = f"Large matmul: {reached}. Large copy: {ceilings.bandwidth / 1e9:,.1f} GB/s."
    say("", *foot.splitlines())
    if options.out:
        rows = "\n".join(row(found) for found in records)
        table = f"{title}:\n\n{HEAD}\n{rows}\n\n{foot}\n\n    {cli.command()}\n"
        content = dict(
            config=name,
            device=device_name(),
            command=cli.command(),
            ceilings=ceilings._asdict(),
            records=records,
        )
        write_table(Path(options.out), table, json.dumps(content, indent=1))


if __name__ == "__main__":
    CONFIG = cli.define_config()
    flags.mark_flag_as_required("config")
    phases = Each(Choice(tuple(PHASES)), fewest=1)
    arguments.define("phases", "train,forward,sampler", f"Of {', '.join(PHASES)}.", phases)
    flags.DEFINE_string("vary", None, "FIELD=VALUE,VALUE,...: a field of the config, in turn.")
    arguments.number(
        "seconds", 10.0, "To go on with each program; five calls at least.", at_least=0
    )
    arguments.path("out", None, "Writes OUT.json and OUT.md.")
    cli.run(lambda: main(CONFIG.value, cli.config_name(), flags.FLAGS), __doc__)
