"""Scores a run at several values of one field: FID against steps, guidance, the width of the EMA.

    python -m launch.sweep --workdir=runs/cifar10 --vary=steps=10,20,50,100,250 --num=5000 \\
      --reference=data/references/cifar10.npz --inception=inception.npz
    python -m launch.sweep --workdir=runs/cifar10 --vary=step=50000,100000,150000 ...
    python -m launch.sweep --workdir=runs/xl --vary=guidance=0,0.25,0.5,1 ...
    python -m launch.sweep --workdir=runs/x --vary=sigma_rel=0.03,0.05,0.1,0.2 ...

Each point is what launch.evaluate writes, whose other flags it takes; what is there is not computed
again. Prints a table, and draws the curves for the run's report. FID depends on --num: compare
points of one curve. steps are the sampler's, step is training's, of a checkpoint that was kept
(train.keep_every). sigma_rel wants a run that stored its averages (see launch.posthoc_ema).
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.evaluation.results import FILE, Result, read_result
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.judge import define_judge, load_judge
from diffusion_jax.experiment.posthoc_ema import reconstruct
from diffusion_jax.experiment.scoring import sample_run
from diffusion_jax.experiment.weights import chosen_checkpoint
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.pictures import Picture, save_picture
from diffusion_jax.training.checkpoints import check_kept
from launch import sample
from launch.common import cli, distributed
from launch.evaluate import score
from launch.tables import compare, markdown

FIELDS = {"steps": int, "step": int, "guidance": float, "sigma_rel": float}
NAMES = {
    "steps": "reverse steps",
    "step": "training step",
    "guidance": "guidance weight",
    "sigma_rel": "sigma_rel of the EMA",
}
METRICS = {  # that are drawn
    "fid": "FID",
    "sfid": "sFID",
    "inception_score": "Inception Score",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
}


def parse_vary(text: str) -> tuple[str, list[float]]:
    """('steps', [10, 20]) of 'steps=10,20'.

    Raises:
      UserError: for another field, or what are no values of it.
    """
    field, _, values = text.partition("=")
    check_choice("--vary", field, FIELDS)
    try:
        return field, sorted({FIELDS[field](value) for value in values.split(",")})
    except ValueError as error:
        raise UserError(f"--vary is {text!r}: give values with commas, as steps=10,20") from error


def sweep(options: flags.FlagValues, command: str) -> tuple[str, dict[float, Result]]:
    """(the field, the result at each of its values).

    Raises:
      UserError: before any sampling, for values that the run cannot have.
    """
    field, values = parse_vary(options.vary)
    for name in ("out",) if field == "sigma_rel" else ("out", field):
        if options[name].value is not None:
            raise UserError(f"--vary={options.vary}: leave out --{name}, each point has its own")
    judge = load_judge(Path(options.reference), Path(options.inception), make_mesh())
    by = (judge.reference.about(), judge.inception)
    found = {}
    for value in at_each(options, field, values):
        out, about = sample_run(options)
        result = read_result(out / FILE) if (out / FILE).exists() else None
        hosts.wait_for_all("looked")
        if result is None or (result.reference, result.weights["inception"]) != by:
            result = score(out / "samples.npz", out, judge, about | {"command": command})
        found[value] = result
        say(f"{field} {value:g}: FID {result.metrics['fid']:.3f}, {out / FILE}")
    return field, found


def at_each(options: flags.FlagValues, field: str, values: list[float]) -> Iterator[float]:
    """The values, with the flags set to each; all are checked before the first is given."""
    if field == "sigma_rel":
        folders = reconstruct(Path(options.workdir), values, cli.command())
        options["workdir"].value = None
        for value, folder in folders.items():
            options["init_from"].value = str(folder)
            yield value
        return
    workdir = Path(options.workdir)
    for value in values:
        options[field].value = value
        build(sample.override(read_workdir(workdir), options))
        if field == "step":
            check_kept(workdir / chosen_checkpoint(options).folder, value)
    for value in values:
        options[field].value = value
        yield value


def plot(field: str, results: dict[float, Result], path: Path) -> None:
    """A panel for each metric."""
    from matplotlib.figure import Figure  # imported here: it takes a second

    values = np.array(list(results))
    drawn = {
        title: [result.metrics[name] for result in results.values()]
        for name, title in METRICS.items()
        if all(name in result.metrics for result in results.values())
    }
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(7.6, 2.4 * rows + 0.2), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for axes, (title, points) in zip(panels, drawn.items(), strict=False):
        axes.plot(values, points, marker="o", ms=4)
        axes.set_ylabel(title)
        if values.min() > 0 and values.max() >= 10 * values.min():
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    for axes in panels[len(drawn) :]:
        axes.axis("off")
    figure.supxlabel(NAMES[field], fontsize="medium")
    figure.savefig(path, dpi=130, format="png")


def main(options: flags.FlagValues) -> None:
    """Scores, and shows, as the flags say."""
    command, workdir = cli.command(), Path(options.workdir)
    distributed.initialize(options)
    field, results = sweep(options, command)
    best = min(results, key=lambda value: results[value].metrics["fid"])
    lowest = results[best]
    caption = (
        f"{lowest.counts['samples']:,} samples at each point, from the same noise, sampled by "
        f"{lowest.sampler}. FID is lowest, {lowest.metrics['fid']:.3g}, at {best:g}. Lower is "
        "better but for Inception Score, precision and recall."
    )
    title = f"Quality by {NAMES[field]}"
    picture = Picture(f"quality_by_{field}.png", "samples", title, caption, lowest.step, command)
    table = compare(lowest.config, {f"{field} {value:g}": each for value, each in results.items()})
    if hosts.is_main():
        path = save_picture(workdir, picture, functools.partial(plot, field, results))
        say(*markdown(table).splitlines(), f"Written: {path}")


if __name__ == "__main__":
    sample.define_flags(num=5_000)
    define_judge()
    for module in (sample, distributed):
        flags.adopt_module_key_flags(module)  # for --help
    flags.DEFINE_string("vary", None, f"FIELD=VALUE,VALUE,...: of {', '.join(FIELDS)}.")
    flags.mark_flags_as_required(["workdir", "vary"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
