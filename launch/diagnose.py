"""Measure a run's network: loss by noise level, gradient by module, size of the latents.

    python -m launch.diagnose --workdir=runs/digits
    python -m launch.diagnose --workdir=runs/digits --num=297 --split=held_out

It takes the newest checkpoint and at least --num examples of the run's data, and measures the
training loss over t, of raw and EMA weights, with the latents carried and not; norms of the
gradient and of the parameters, by module and layer; and, for RIN, mean, spread, length and largest
value of the latents after each block while it samples, carried and not. It writes diagnostics.json,
and pictures for the report.
"""

from launch.common import arguments, cli, options

from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.experiment.diagnosis import diagnose
from diffusion_jax.experiment.workdir import read_workdir


def main(values: flags.FlagValues) -> None:
    """Measure what the options ask for."""
    workdir = Path(values.workdir)
    config = read_workdir(workdir)
    config.sampling.update_from_flattened_dict(options.sampling_changes(values))
    if values.split is not None:
        config.data.split = values.split
    paths = diagnose(
        config,
        workdir,
        options.chosen_checkpoint(values),
        num=values.num,
        batch_size=values.batch_size,
        seed=values.seed,
        command=cli.command(),
    )
    say("Written:", *map(str, paths))


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.", required=True)
    arguments.count("num", 512, "Examples to measure on.")
    flags.DEFINE_string("split", None, "Of the data, as held_out or test; the config's.")
    arguments.count("batch_size", 64, "Examples at a time; changes no loss.")
    arguments.seed("seed", 0, "Decides which examples, their noise, and the samples.")
    options.define_checkpoint()
    options.define_sampling()
    cli.run(lambda: main(flags.FLAGS), __doc__)
