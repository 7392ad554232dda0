"""Trains a config with several values of a field, from several seeds: the curves side by side.

    python -m launch.compare --config=configs/rin/digits.py --vary=model.dtype=float32,bfloat16 \\
      --seeds=0,1,2 --workdir=runs/dtypes_rin --out=docs/benchmarks/dtypes_rin

A difference between values means something where it is larger than that between seeds. The loss is
the mean over the last quarter of the steps. Every run lies in a folder of --workdir; the same
command continues what was stopped. Writes OUT.md, OUT.json and OUT.png.
"""

import json
import statistics
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.results import device_name, write_table
from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.console import say
from diffusion_jax.reporting.figures import smoothed
from diffusion_jax.reporting.metrics import METRICS, read_lines
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.locks import lock_folder
from launch import train
from launch.common import arguments, cli

LAST = 0.25  # of the steps, whose mean is the loss of a run

Curves = dict[str, dict[int, list[tuple[int, float]]]]  # value -> seed -> (step, loss)


def run(configs: dict[str, ConfigDict], seeds: list[int], workdir: Path) -> Curves | None:
    """Trains all, value by value within a seed, and reads their losses; None if it was stopped."""
    curves: Curves = {value: {} for value in configs}
    for seed in seeds:
        for value, config in configs.items():
            config.seed, folder = seed, workdir / f"{value}_{seed}"
            config.train.update(grid_every=0, eval_every=0)
            say(f"{value}, seed {seed}:")
            if not train.run(config, folder):
                return None
            lines = read_lines(folder / METRICS)
            curves[value][seed] = [(r["step"], r["loss"]) for r in lines if "loss" in r]
    return curves


def last_loss(curve: list[tuple[int, float]]) -> float:
    """Mean over the last quarter of the steps."""
    start = (1 - LAST) * curve[-1][0]
    return statistics.mean(loss for step, loss in curve if step > start)


def table(curves: Curves) -> str:
    """A row for each value: its seeds, their mean, lowest and highest."""
    seeds = list(next(iter(curves.values())))
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | lowest | highest |"]
    lines.append("|---" * (len(seeds) + 4) + "|")
    for value, by_seed in curves.items():
        losses = [last_loss(curve) for curve in by_seed.values()]
        cells = [*losses, statistics.mean(losses), min(losses), max(losses)]
        lines.append(f"| {value} | {' | '.join(f'{cell:.5f}' for cell in cells)} |")
    return "\n".join(lines)


def plot(curves: Curves, title: str, path: Path) -> None:
    """A colour for each value, a line for each seed, means of a fiftieth of it to either side."""
    from matplotlib.figure import Figure  # imported here: it takes a second

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (value, by_seed) in enumerate(curves.items()):
        for seed, curve in by_seed.items():
            steps, losses = np.array(curve).T
            label = value if seed == min(by_seed) else None
            smooth = smoothed(losses, max(1, len(losses) // 50))
            axes.plot(steps, smooth, color=f"C{number}", lw=1, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="training loss")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130, format="png")


def main(config: ConfigDict, options: flags.FlagValues) -> None:
    """Trains, prints and writes the comparison."""
    configs = variants(config, options.vary)
    workdir = Path(options.workdir)
    with lock_folder(workdir):
        curves = run(configs, options.seeds, workdir)
    if curves is None:
        return
    steps, batch = config.train.steps, config.train.batch_size
    title = f"{cli.config_name()}, {steps:,} steps of batch {batch}, on {device_name()}"
    found = f"Loss, mean over the last quarter: {title}.\n\n{table(curves)}\n"
    say("", *found.splitlines())
    if options.out:
        out = Path(options.out)
        text = f"{found}\n![Curves]({out.name}.png)\n\n    {cli.command()}\n"
        content = json.dumps(dict(title=title, command=cli.command(), curves=curves))
        write_table(out, text, content)
        write_atomically(out.with_suffix(".png"), lambda path: plot(curves, title, path))


if __name__ == "__main__":
    CONFIG = cli.define_config()
    flags.DEFINE_string("vary", None, "FIELD=VALUE,VALUE,...: a field of the config.")
    arguments.seeds("seeds", "0,1,2", "Seeds of each value.")
    arguments.folder("workdir", None, "Folder of all the runs.")
    arguments.path("out", None, "Writes OUT.md, OUT.json and OUT.png.")
    flags.mark_flags_as_required(["config", "vary", "workdir"])
    cli.run(lambda: main(CONFIG.value, flags.FLAGS), __doc__)
