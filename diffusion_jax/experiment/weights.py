"""Load the weights of a run's checkpoint or of an export, and turn them into tensors by name."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.exports import (
    Export,
    fingerprint,
    is_export,
    read_export,
    to_params,
    to_tensors,
)
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.training.checkpoints import abstract_like, restore_newest
from diffusion_jax.training.state import TrainState

LAYOUTS = ("ours", "official")


class Weights(NamedTuple):
    """Parameters of a network, and where they are from.

    Attributes:
      params: parameter tree on a mesh.
      step: step of training, 0 where an export does not say.
      sha256: fingerprint of an export, None for a run.
    """

    params: Any
    step: int
    sha256: str | None = None


class Checkpoint(NamedTuple):
    """A checkpoint of a run.

    Attributes:
      folder: 'checkpoints' or 'best', in the run's directory.
      step: None for the newest.
    """

    folder: str = "checkpoints"
    step: int | None = None


NEWEST = Checkpoint()


def load_weights(
    folder: Path,
    config: ConfigDict,
    experiment: Experiment,
    mesh: Mesh,
    checkpoint: Checkpoint = NEWEST,
) -> Weights:
    """Load the EMA of a run, or the weights of an export.

    Args:
      folder: a run directory or an export.
      checkpoint: which one of a run; ignored for an export.

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
    """Restore a checkpoint of a run; without a step, the newest that is not corrupt.

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
    """Return the parameter tree of an export of either layout, checked against the network."""
    if export.provenance["layout"] == "official":
        official = experiment.network.load_official()
        return official.params_from_official(export.tensors, experiment.denoiser)
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return to_params(export.tensors, shapes)


def tensors_of(params: Any, experiment: Experiment, layout: str) -> dict[str, Any]:
    """Return NumPy arrays by their names in a layout; the inverse of `params_of`."""
    params = jax.device_get(params)
    if layout == "official":
        return experiment.network.load_official().params_to_official(params, experiment.denoiser)
    return to_tensors(params)


def put_params(params: Any, experiment: Experiment, mesh: Mesh) -> Any:
    """Shard parameters, which every process holds in full, as the experiment shards them."""

    def put(value, sharding) -> jax.Array:
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(put, jax.device_get(params), experiment.sharding(params, mesh))
