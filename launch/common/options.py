"""Groups of options that several commands have, and the plain arguments that they stand for."""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.experiment.scoring import Job
from diffusion_jax.experiment.weights import chosen_checkpoint, define_checkpoint, opened_folder
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.sampling.spacings import SPACINGS
from launch.common import arguments, distributed

flags.disclaim_key_flags()  # an option belongs to the command that defines it, in its --help


def define_sampling(num: int) -> None:
    """Define the options of `sampling_job`, with `num` samples by default."""
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.folder("init_from", None, "Folder of launch.export, instead of a run.")
    arguments.count("num", num, "Number of samples.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    flags.DEFINE_string("sampler", None, "ddpm, ddpm_small, ddpm_learned, ddim, dpmpp_2m, heun.")
    arguments.count("steps", None, "Reverse steps; the config's.")
    arguments.choice("spacing", None, "Which noise levels; the config's.", SPACINGS)
    arguments.number("guidance", None, "Guidance weight w, 0 for none; the config's.")
    arguments.path("autoencoder", None, "Its folder or file of weights, for latents; the config's.")
    define_checkpoint()
    flags.DEFINE_bool("carry", True, "Carry the latents from one reverse step to the next.")
    arguments.seed("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    arguments.count("batch_size", 64, "Samples at a time; does not change them.")
    arguments.folder("out", None, "Folder to write to; one in that of the weights.")
    distributed.define_flags()


def override(config: ConfigDict, options: flags.FlagValues) -> ConfigDict:
    """Return a run's config with what the options change of sampling."""
    for name, section, field in (
        ("steps", "sampling", "steps"),
        ("sampler", "sampling", "sampler"),
        ("spacing", "sampling", "spacing"),
        ("guidance", "sampling", "guidance"),
        ("autoencoder", "autoencoder", "weights"),
    ):
        if options[name].value is not None:
            config[section][field] = options[name].value
    if not options.carry:
        config.sampling.carry_decay = 1.0
    return config


def sampling_job(options: flags.FlagValues) -> Job:
    """Return the samples that the options of `define_sampling` ask for.

    Raises:
      UserError: unless exactly one of --workdir and --init_from is given, and holds a config.
    """
    folder = opened_folder(options)
    return Job(
        folder=folder,
        config=override(read_workdir(folder), options),
        request={name: options[name].value for name in ("num", "labels", "seed", "batch_size")},
        checkpoint=chosen_checkpoint(options),
        out=Path(options.out) if options.out else None,
    )


def define_judge() -> None:
    """Define the options of `diffusion_jax.evaluation.judge.load_judge`."""
    arguments.file("reference", None, "File of launch.reference.", required=True)
    arguments.file("inception", None, "Weights of FID's Inception.", required=True)
