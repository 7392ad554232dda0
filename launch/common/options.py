"""Groups of options that several commands have, each with the function that reads its values."""

from pathlib import Path

from absl import flags

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.exports import read_provenance
from diffusion_jax.experiment.weights import Checkpoint
from launch.common import arguments

flags.disclaim_key_flags()  # an option belongs to the command that defines it, in its --help


def define_checkpoint() -> None:
    """Define --best and --step, which `chosen_checkpoint` reads."""
    flags.DEFINE_bool("best", False, "The checkpoint of lowest FID, where train.eval_every is set.")
    arguments.count(
        "step", None, "The checkpoint of this step of training; the newest.", at_least=0
    )


def chosen_checkpoint(options: flags.FlagValues) -> Checkpoint:
    """Return the checkpoint that the options select."""
    return Checkpoint("best" if options.best else "checkpoints", options.step)


def opened_folder(options: flags.FlagValues) -> Path:
    """Return --workdir, a run directory, or --init_from, an export.

    Raises:
      UserError: unless exactly one is given.
    """
    if bool(options.workdir) == bool(options.init_from):
        raise UserError(
            "give either --workdir, a run of launch.train, or --init_from, a folder of "
            "launch.export"
        )
    if options.workdir:
        return Path(options.workdir)
    if options.best or options.step is not None:
        raise UserError(
            "--best and --step choose a checkpoint, and --init_from has none: leave them out"
        )
    folder = Path(options.init_from)
    read_provenance(folder)
    return folder


def define_judge() -> None:
    """Define --reference and --inception, of `diffusion_jax.experiment.judge.load_judge`."""
    arguments.file("reference", None, "File of launch.reference.", required=True)
    arguments.file("inception", None, "Weights of FID's Inception.", required=True)
