"""Groups of options that several commands have, each with the function that reads its values."""

from launch.common import arguments, distributed

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.exports import read_provenance
from diffusion_jax.experiment.schema import fields_of
from diffusion_jax.experiment.scoring import Job
from diffusion_jax.experiment.weights import Checkpoint
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.fields import Rule
from diffusion_jax.sampling.samplers import Sampling

flags.disclaim_key_flags()  # an option belongs to the command that defines it, in its --help


def define_sampling() -> None:
    """Define an option for every field of `Sampling`, and --nocarry; see `sampling_changes`.

    A field is an option of its name, and those of its schedule are --schedule, for the name, and
    --schedule_start, --schedule_end and --schedule_tau.
    """
    for name, _, rule, about in _sampling_fields():
        arguments.define(name, None, f"{about} Left out: the config's.", rule)
    flags.DEFINE_bool("carry", True, "Carry the latents from one reverse step to the next.")


def sampling_changes(options: flags.FlagValues) -> dict[str, Any]:
    """Return the fields of a config's `sampling` section that the options set, by flat name.

    Raises:
      UserError: for --nocarry with a --carry_decay.
    """
    given = ((field, options[name].value) for name, field, _, _ in _sampling_fields())
    changes = {field: value for field, value in given if value is not None}
    if not options.carry:
        if "carry_decay" in changes:
            raise UserError("--nocarry stands for --carry_decay=1: give one of them")
        changes["carry_decay"] = 1.0
    return changes


def _sampling_fields() -> Iterator[tuple[str, str, Rule, str]]:
    """Yield (option, name of the field in the section, rule, meaning) for all fields."""
    for field in fields_of(Sampling, "sampling"):
        name = field.name.removeprefix("sampling.")
        # A discrete schedule must have as many steps as in training: there is nothing to set.
        if (rule := field.rule) and name != "schedule.steps":
            option = name.replace(".", "_").removesuffix("_name")
            yield option, name, rule, f"{field.meaning.rstrip('.')}."


def define_source() -> None:
    """Define where the weights come from; see `opened`."""
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.folder("init_from", None, "Folder of launch.export, instead of a run.")
    define_checkpoint()
    arguments.path("autoencoder", None, "Its folder or file of weights, for latents; the config's.")


def opened(options: flags.FlagValues) -> tuple[Path, ConfigDict]:
    """Return the run directory or export that the options name, and its config as they change it.

    It reads the options of `define_source` and `define_sampling`.

    Raises:
      UserError: unless exactly one of --workdir and --init_from is given, and holds a config.
    """
    folder = opened_folder(options)
    config = read_workdir(folder)
    config.sampling.update_from_flattened_dict(sampling_changes(options))
    if options.autoencoder is not None:
        config.autoencoder.weights = options.autoencoder
    return folder, config


def define_samples(num: int) -> None:
    """Define the options of `sampling_job`, with `num` samples by default."""
    define_source()
    define_sampling()
    arguments.count("num", num, "Number of samples.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    arguments.seed("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    arguments.count("batch_size", 64, "Samples at a time; does not change them.")
    arguments.folder("out", None, "Folder to write to; one in that of the weights.")
    distributed.define_flags()


def sampling_job(options: flags.FlagValues) -> Job:
    """Return the samples that the options of `define_samples` ask for.

    Raises:
      UserError: unless exactly one of --workdir and --init_from is given, and holds a config.
    """
    folder, config = opened(options)
    return Job(
        folder=folder,
        config=config,
        request={name: options[name].value for name in ("num", "labels", "seed", "batch_size")},
        checkpoint=chosen_checkpoint(options),
        out=Path(options.out) if options.out else None,
    )


def define_judge() -> None:
    """Define the options of `diffusion_jax.evaluation.judge.load_judge`."""
    arguments.file("reference", None, "File of launch.reference.", required=True)
    arguments.file("inception", None, "Weights of FID's Inception.", required=True)


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
