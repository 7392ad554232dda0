"""The weights that a command begins with: of a run's checkpoint, or of an export."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.exports import (
    Export,
    fingerprint,
    is_export,
    read_export,
    read_provenance,
    to_params,
    to_tensors,
)
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.training.checkpoints import abstract_like, restore_newest
from diffusion_jax.training.state import TrainState
from launch.common import arguments
from rin_jax import RIN
from rin_jax.official import params_from_official, params_to_official

LAYOUTS = ("ours", "official")


class Weights(NamedTuple):
    """Parameters of a network.

    Attributes:
      params: on a mesh.
      step: of training, 0 where an export does not say.
      sha256: of an export, None for a run.
    """

    params: Any
    step: int
    sha256: str | None = None


class Checkpoint(NamedTuple):
    """One of a run's: in the folder 'checkpoints' or 'best' of its directory; newest for None."""

    folder: str = "checkpoints"
    step: int | None = None


NEWEST = Checkpoint()
flags.disclaim_key_flags()  # those of `define_checkpoint` are the caller's, in its --help


def define_checkpoint() -> None:
    """--best and --step, of `chosen_checkpoint`."""
    flags.DEFINE_bool("best", False, "The checkpoint of lowest FID, where train.eval_every is set.")
    arguments.count(
        "step", None, "The checkpoint of this step of training; the newest.", at_least=0
    )


def chosen_checkpoint(options: flags.FlagValues) -> Checkpoint:
    """What the flags say."""
    return Checkpoint("best" if options.best else "checkpoints", options.step)


def opened_folder(options: flags.FlagValues) -> Path:
    """--workdir, a run directory, or --init_from, an export.

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


def load_weights(
    folder: Path,
    config: ConfigDict,
    experiment: Experiment,
    mesh: Mesh,
    checkpoint: Checkpoint = NEWEST,
) -> Weights:
    """The EMA of a run, or the weights of an export.

    Args:
      folder: a run directory or an export.
      checkpoint: of a run.

    Raises:
      UserError: if a run has no checkpoint, or what is there is damaged or of another network.
    """
    if is_export(folder):
        export = read_export(folder)
        params = put_params(params_of(export, experiment), experiment, mesh)
        return Weights(params, export.provenance["step"] or 0, fingerprint(export.provenance))
    state = restore_state(folder, config, experiment, mesh, checkpoint)
    return Weights(state.ema, int(state.step))


def restore_state(
    workdir: Path,
    config: ConfigDict,
    experiment: Experiment,
    mesh: Mesh,
    checkpoint: Checkpoint = NEWEST,
) -> TrainState:
    """A checkpoint of a run: where no step is named, the newest that is whole.

    Raises:
      UserError: if there is none.
    """
    shapes = jax.eval_shape(lambda: experiment.init_state(config.seed, config.train.steps))
    folder = workdir / checkpoint.folder
    abstract = abstract_like(shapes, experiment.sharding(shapes, mesh))
    state = restore_newest(folder, abstract, checkpoint.step)
    if state is None:
        raise UserError(f"{folder} has no checkpoint yet: train for longer")
    return state


def params_of(export: Export, experiment: Experiment) -> Any:
    """The parameter tree of an export, of either layout, checked against the network."""
    if export.provenance["layout"] == "official":
        return params_from_official(export.tensors, official_network(experiment))
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return to_params(export.tensors, shapes)


def tensors_of(params: Any, experiment: Experiment, layout: str) -> dict[str, Any]:
    """NumPy arrays by the names of a layout; the inverse of `params_of`."""
    params = jax.device_get(params)
    if layout == "official":
        return params_to_official(params, official_network(experiment))
    return to_tensors(params)


def official_network(experiment: Experiment) -> RIN:
    """The network. Raises `UserError` if there is no official code of it."""
    if not isinstance(experiment.denoiser, RIN):
        raise UserError("there is official code of RIN alone, and this config's model is another")
    return experiment.denoiser


def put_params(params: Any, experiment: Experiment, mesh: Mesh) -> Any:
    """Send parameters that every process has whole to where the experiment has them on a mesh."""

    def put(value, sharding) -> jax.Array:
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(put, jax.device_get(params), experiment.sharding(params, mesh))
