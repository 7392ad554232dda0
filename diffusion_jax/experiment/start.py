"""How a run that starts from exported weights records and repeats its initialisation.

The weights are read once, when there is no checkpoint yet. That the optimizer's moments were fresh
then, and at which step, stays part of the run: its learning rate depends on it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diffusion_jax.console import say
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.exports import fingerprint, is_export, read_export, read_provenance
from diffusion_jax.experiment.networks import find_network
from diffusion_jax.experiment.weights import params_of, put_params
from diffusion_jax.experiment.workdir import START, differing, flatten, read_workdir
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json

# Adam's second moment is an average over 1 / (1 - b2) = 1000 steps, and unreliable until then.
REWARM_STEPS = 1000


class Start(NamedTuple):
    """Content of start.json.

    Attributes:
      path: folder of the export.
      sha256: its `fingerprint`.
      step: step of this run at which it starts.
      rewarm_steps: number of steps, from there on, over which the learning rate warms up again.
    """

    path: str
    sha256: str
    step: int
    rewarm_steps: int

    def applied(self, experiment: Experiment) -> Experiment:
        """Return the experiment with an optimizer that starts at this step."""
        optimizer = dataclasses.replace(
            experiment.optimizer, start_step=self.step, rewarm_steps=self.rewarm_steps
        )
        return dataclasses.replace(experiment, optimizer=optimizer)


def find_start(
    workdir: Path, config: ConfigDict, init_from: Path | None, init_step: int
) -> Start | None:
    """Return what the run in `workdir` started from, or is to start from; None for random weights.

    Args:
      init_from: folder of an export; None to take what the run has recorded.
      init_step: step of the run to start at.

    Raises:
      UserError: for an export of another network, a step that the run does not have, or a run that
        began otherwise.
    """
    if is_export(workdir):
        raise UserError(
            f"--workdir {workdir} holds exported weights: give them as --init_from, and a new "
            "directory as --workdir"
        )
    begun = read_start(workdir)
    if init_from is None:
        if init_step:
            raise UserError(f"--init_step is {init_step}: give --init_from, the weights, too")
        return begun
    provenance = read_provenance(init_from)
    path, found = str(init_from.absolute()), fingerprint(provenance)
    if begun:
        if (begun.sha256, begun.step) != (found, init_step):
            raise UserError(
                f"--workdir {workdir} holds a run that started from {begun.path} at step "
                f"{begun.step}, and not from {init_from} at {init_step}: choose another directory, "
                "or leave out --init_from and --init_step"
            )
        return begun._replace(path=path)
    if (workdir / "config.json").exists():
        raise UserError(
            f"--workdir {workdir} holds a run that started from random weights: choose another "
            "directory, or leave out --init_from"
        )
    check_at_least("--init_step", init_step, 0)
    remaining = config.train.steps - init_step
    if remaining < 1:
        raise UserError(
            f"--init_step is {init_step}, and config.train.steps {config.train.steps}: there is "
            "nothing left to train"
        )
    _check_model(init_from, config)
    return Start(path, found, init_step, min(REWARM_STEPS, remaining // 10))


def read_start(workdir: Path) -> Start | None:
    """Return what the run in a directory started from, None for random weights."""
    path = workdir / START
    if not path.exists():
        return None
    found = read_json(path, schemas.START)
    return Start(*(found[field] for field in Start._fields))


def starting_params(start: Start, experiment: Experiment, mesh: Mesh) -> Any:
    """Return the weights on a mesh, and print what they are and what the learning rate does.

    Raises:
      UserError: if the export is damaged, or not what it was.
    """
    export = read_export(Path(start.path))
    if fingerprint(export.provenance) != start.sha256:
        raise UserError(
            f"{start.path} holds other weights than when this run started: put them back, or "
            "choose another --workdir"
        )
    params = put_params(params_of(export, experiment), experiment, mesh)
    about = export.provenance
    of = f"{about['weights']} of {about['config']}"
    of += "" if about["step"] is None else f", step {about['step']}"
    say(
        f"Started from {start.path} ({of}) at step {start.step:,}: the optimizer's moments are "
        f"fresh, and the learning rate grows from 0 to the schedule's over {start.rewarm_steps:,} "
        "steps."
    )
    return params


def _check_model(folder: Path, config: ConfigDict) -> None:
    """Raise `UserError` naming the fields in which an export has another network."""
    old, new = (
        flatten(json.loads(each.model.to_json()), "model.")
        for each in (read_workdir(folder), config)
    )
    network = find_network(config.model.name)
    free = ("dtype", *network.computed_by, *network.regularised_by)
    fields = differing(old, new, but=[f"model.{name}" for name in free])
    if fields:
        raise UserError(
            f"{folder} holds weights of another network ({'; '.join(fields[:4])}): give its config"
        )
