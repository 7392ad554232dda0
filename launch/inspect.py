"""Draw what the network of a run does while it samples, into the run's pictures/.

    python -m launch.inspect --workdir=runs/digits
    python -m launch.inspect --workdir=runs/digits --num=8 --steps=50 --labels=3,7

For RIN: what the latents read, laid over the images, at several reverse steps; whether that follows
the image; how far the latents move, carried and not. For DiffuSSM: its kernels, their time scales,
and which part of the image one token of the output depends on. All is measured on at least --num
samples of the EMA weights; a large network wants few of them, and few --steps.
"""

from launch.common import arguments, cli, options

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.experiment.inside import inspect


def main(values: flags.FlagValues) -> None:
    """Draw what the options ask for."""
    folder, config = options.opened(values)
    paths = inspect(
        config,
        folder,
        options.chosen_checkpoint(values),
        num=values.num,
        labels=values.labels,
        seed=values.seed,
        command=cli.command(),
    )
    say("Written:", *map(str, paths))


if __name__ == "__main__":
    options.define_source()
    options.define_sampling()
    arguments.count("num", 32, "Samples to measure on; the first few are shown.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    arguments.seed("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
