"""Train a config with several values of a field, from several seeds: the curves side by side.

    python -m launch.compare --config=configs/rin/digits.py --vary=model.dtype=float32,bfloat16 \\
      --seeds=0,1,2 --workdir=runs/dtypes_rin --out=docs/benchmarks/dtypes_rin

A difference between values means something where it is larger than that between seeds. The loss is
the mean over the last quarter of the steps. Every run lies in a folder of --workdir; the same
command continues what was stopped. Writes OUT.md, OUT.json and OUT.png.
"""

from launch.common import arguments, cli
from launch.common.report import write_report

import json
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.results import device_name, write_table
from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.console import say
from diffusion_jax.experiment.training import train
from diffusion_jax.reporting.metrics import METRICS, read_lines
from diffusion_jax.reporting.plots import Curves, loss_table, plot_losses
from diffusion_jax.reporting.published import markdown
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.locks import lock_folder


def run(configs: dict[str, ConfigDict], seeds: list[int], workdir: Path) -> Curves | None:
    """Train every value within a seed before the next seed; return the losses, None if stopped."""
    curves: Curves = {value: {} for value in configs}
    for seed in seeds:
        for value, config in configs.items():
            config.seed, folder = seed, workdir / f"{value}_{seed}"
            config.train.update(grid_every=0, eval_every=0)
            say(f"{value}, seed {seed}:")
            if not train(config, folder).finished:
                return None
            write_report(folder)
            lines = read_lines(folder / METRICS)
            curves[value][seed] = [(int(r["step"]), r["loss"]) for r in lines if "loss" in r]
    return curves


def main(config: ConfigDict, options: flags.FlagValues) -> None:
    """Train, print and write the comparison."""
    configs = variants(config, options.vary)
    workdir = Path(options.workdir)
    with lock_folder(workdir):
        curves = run(configs, options.seeds, workdir)
    if curves is None:
        return
    steps, batch = config.train.steps, config.train.batch_size
    title = f"{cli.config_name()}, {steps:,} steps of batch {batch}, on {device_name()}"
    found = f"Loss, mean over the last quarter: {title}.\n\n{markdown(loss_table(curves))}\n"
    say("", *found.splitlines())
    if options.out:
        out = Path(options.out)
        text = f"{found}\n![Curves]({out.name}.png)\n\n    {cli.command()}\n"
        content = json.dumps(dict(title=title, command=cli.command(), curves=curves))
        write_table(out, text, content)
        write_atomically(out.with_suffix(".png"), lambda path: plot_losses(curves, title, path))


if __name__ == "__main__":
    CONFIG = cli.define_config()
    about = "FIELD=VALUE,VALUE,...: a field of the config."
    flags.DEFINE_string("vary", None, about, required=True)
    arguments.seeds("seeds", "0,1,2", "Seeds of each value.")
    arguments.folder("workdir", None, "Folder of all the runs.", required=True)
    arguments.path("out", None, "Writes OUT.md, OUT.json and OUT.png.")
    cli.run(lambda: main(CONFIG.value, flags.FLAGS), __doc__)
