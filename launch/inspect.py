"""Draws what the network of a run does while it samples, into the run's pictures/.

    python -m launch.inspect --workdir=runs/digits
    python -m launch.inspect --workdir=runs/digits --num=8 --steps=50 --labels=3,7

Of RIN: what the latents read, laid over the images, at several reverse steps; whether that follows
the image; how far the latents move, carried and not. Of DiffuSSM: its kernels, their time scales,
and which part of the image one token of the output depends on. All is measured on at least --num
samples of the EMA weights; a large network wants few of them, and few --steps.
"""

from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.console import progress, say
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.drawing import parse_labels
from diffusion_jax.experiment.grid import make_condition
from diffusion_jax.experiment.weights import load_weights
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.geometry import Images
from diffusion_jax.parallel.sharding import make_mesh, round_up
from diffusion_jax.reporting.pictures import Picture, save_picture
from launch.common import arguments, cli
from launch.common.options import chosen_checkpoint, define_checkpoint, opened_folder


def inspect(workdir: Path, options: flags.FlagValues, command: str) -> list[Path]:
    """Draws all pictures of a run's network; returns their paths.

    Raises:
      UserError: for a run of videos, or of a RIN of latents without the autoencoder's weights.
    """
    config = read_workdir(workdir)
    if options.steps is not None:
        config.sampling.steps = options.steps
    if options.autoencoder is not None:
        config.autoencoder.weights = options.autoencoder
    check_at_least("--num", options.num, 1)
    check_at_least("--steps", config.sampling.steps, 2)
    experiment = build(config)
    if not isinstance(experiment.denoiser.geometry, Images):
        raise UserError(f"--workdir {workdir} is a run of videos: only images can be inspected")
    mesh = make_mesh(**config.mesh)
    indices = np.arange(round_up(options.num, mesh), dtype=np.int32)
    labels = parse_labels(options.labels, options.seed, len(indices), experiment.num_classes)
    chosen = chosen_checkpoint(options)
    params, step, _ = load_weights(workdir, config, experiment, mesh, chosen)
    condition = make_condition(experiment, None, indices, labels)
    watched = experiment.network.load_figures()(
        experiment, params, mesh, indices, condition, options.seed
    )
    paths = []
    with progress(len(watched.pictures), "pictures") as bar:
        for make in watched.pictures:
            file, title, caption, draw = make()
            picture = Picture(file, "inside", title, caption, step, command)
            paths.append(save_picture(workdir, picture, draw))
            bar.update()
    return paths


def main(options: flags.FlagValues) -> None:
    """Draws as the flags say."""
    paths = inspect(opened_folder(options), options, cli.command())
    say("Written:", *map(str, paths))


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.folder("init_from", None, "Folder of launch.export, instead of a run.")
    arguments.count("num", 32, "Samples to measure on; the first few are shown.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    arguments.count("steps", None, "Reverse steps; the config's.")
    arguments.seed("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    define_checkpoint()
    arguments.path("autoencoder", None, "Its folder or file of weights, for latents; the config's.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
