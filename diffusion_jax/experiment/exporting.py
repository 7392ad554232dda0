"""From weights, a run's or the official code's, to an exported folder that says what they are."""

from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
from ml_collections import ConfigDict

from diffusion_jax.errors import check_choice
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exports import exact_names, write_export
from diffusion_jax.experiment.start import read_start
from diffusion_jax.experiment.weights import (
    LAYOUTS,
    NEWEST,
    Checkpoint,
    restore_state,
    tensors_of,
)
from diffusion_jax.experiment.workdir import code_version, read_data, read_run, read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.tensors import read_tensors

WEIGHTS = ("ema", "params")


class Found(NamedTuple):
    """Weights to export.

    Attributes:
      params: parameter tree.
      config: config of the network.
      about: what provenance.json says about the weights.
    """

    params: Any
    config: ConfigDict
    about: dict[str, Any]


def of_run(workdir: Path, weights: str = "ema", checkpoint: Checkpoint = NEWEST) -> Found:
    """Return the weights of a run's checkpoint.

    Args:
      weights: 'ema' or 'params'.

    Raises:
      UserError: if there is no such checkpoint.
    """
    check_choice("--weights", weights, WEIGHTS)
    config = read_workdir(workdir)
    state = restore_state(workdir, config, build(config), make_mesh(1), checkpoint)
    about = about_run(workdir, config, int(state.step), weights)
    return Found(getattr(state, weights), config, about)


def about_run(workdir: Path, config: ConfigDict, step: int, weights: str) -> dict[str, Any]:
    """Return what provenance.json says about weights of a run."""
    start = read_start(workdir)
    return {
        "config": read_run(workdir)["config"],
        "weights": weights,
        "step": step,
        "images_seen": step * config.train.batch_size,
        "seed": config.seed,
        "data": read_data(workdir),
        "start": start._asdict() if start else None,
    }


def of_official(path: Path, config: ConfigDict, name: str, step: int | None = None) -> Found:
    """Return weights of a network's official code.

    Args:
      path: file of its variables by name.
      config: config of the same network.
      name: name of the config.
      step: step of training, None if it is not known.

    Raises:
      UserError: if there is no official code of the network, or the weights do not fit it.
    """
    experiment = build(config)
    official = experiment.network.load_official()
    params = official.params_from_official(read_tensors(path), experiment.denoiser)
    about = {
        "config": name,
        "weights": "official",
        "official": {"path": str(path), "sha256": sha256(path)},
        "step": step,
        "images_seen": None if step is None else step * config.train.batch_size,
    }
    return Found(params, config, about)


def export(
    found: Found,
    out: Path,
    layout: str = "ours",
    dtype: str = "float32",
    shard_size: int = 2**31,
    command: str = "",
) -> None:
    """Write weights to a folder.

    Args:
      layout: 'ours' or 'official', the names and shapes of the tensors.
      dtype, shard_size: see `write_export`.
      command: the command line that was called, for provenance.json.

    Raises:
      UserError: if the folder exists or cannot be written, or the network has no official layout.
    """
    check_choice("--layout", layout, LAYOUTS)
    experiment = build(found.config)
    tensors = tensors_of(found.params, experiment, layout)
    versions = {"code": code_version(), "jax": jax.__version__, "flax": flax.__version__}
    provenance = found.about | {"layout": layout, "command": command} | versions
    config = found.config.to_json(indent=2) + "\n"
    exact = exact_names(experiment.declared)
    write_export(out, tensors, config, provenance, dtype, shard_size, exact)
