"""Score a run at several values of one field: FID against steps, guidance, the width of the EMA.

    python -m launch.sweep --workdir=runs/cifar10 --vary=steps=10,20,50,100,250 --num=5000 \\
      --reference=data/references/cifar10.npz --inception=inception.npz
    python -m launch.sweep --workdir=runs/cifar10 --vary=step=50000,100000,150000 ...
    python -m launch.sweep --workdir=runs/xl --vary=guidance=0,0.25,0.5,1 ...
    python -m launch.sweep --workdir=runs/x --vary=sigma_rel=0.03,0.05,0.1,0.2 ...

Each point is what launch.evaluate writes, and takes its other flags; a point that was scored before
is not computed again. Prints a table, and draws the curves for the run's report. FID depends on
--num: compare points of one curve. steps are the sampler's; step is a training step, that of a
checkpoint that was kept (train.keep_every). sigma_rel needs a run that stored its averages (see
launch.posthoc_ema).
"""

from launch.common import cli, distributed
from launch.common.options import define_judge, define_samples, sampling_job

import dataclasses
import functools
from pathlib import Path

from absl import flags

from configs.published import RESULTS
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.judge import load_judge
from diffusion_jax.evaluation.results import Result
from diffusion_jax.experiment.posthoc_ema import reconstruct
from diffusion_jax.experiment.sweep import FIELDS, describe, jobs, parse_vary, sweep
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.pictures import save_picture
from diffusion_jax.reporting.plots import plot_metrics
from diffusion_jax.reporting.published import compare, markdown


def run(options: flags.FlagValues, command: str) -> tuple[str, dict[float, Result]]:
    """Return the field, and the result at each of its values.

    Raises:
      UserError: before any sampling, for values that the run cannot have.
    """
    field, values = parse_vary(options.vary)
    for name in ("out", "step") if field == "sigma_rel" else ("out", field):
        if options[name].value is not None:
            raise UserError(f"--vary={options.vary}: leave out --{name}, each point has its own")
    job = sampling_job(options)
    judge = load_judge(Path(options.reference), Path(options.inception), make_mesh())
    if field == "sigma_rel":
        folders = reconstruct(job.folder, values, command)
        points = {value: dataclasses.replace(job, folder=path) for value, path in folders.items()}
    else:
        points = jobs(job, field, values)
    return field, sweep(points, field, judge, command)


def main(options: flags.FlagValues) -> None:
    """Score, draw and print."""
    command = cli.command()
    distributed.initialize(options)
    field, results = run(options, command)
    config = next(iter(results.values())).config
    named = {f"{field} {value:g}": result for value, result in results.items()}
    if hosts.is_main():
        picture = describe(field, results, command)
        draw = functools.partial(plot_metrics, results, FIELDS[field][1])
        path = save_picture(Path(options.workdir), picture, draw)
        say(*markdown(compare(config, named, RESULTS)).splitlines(), f"Written: {path}")


if __name__ == "__main__":
    define_samples(num=5_000)
    define_judge()
    flags.DEFINE_string("vary", None, f"FIELD=VALUE,VALUE,...: of {', '.join(FIELDS)}.")
    flags.mark_flags_as_required(["workdir", "vary"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
