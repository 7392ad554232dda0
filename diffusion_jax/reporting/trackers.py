"""Experiment trackers: Weights & Biases and MLflow, each an extra of the package.

Both are set up by their own environment variables and log-ins: WANDB_PROJECT, WANDB_MODE=offline,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and so on.
"""

import importlib.util
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from diffusion_jax.console import say, warn
from diffusion_jax.errors import UserError
from diffusion_jax.parallel.hosts import is_main
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import TRACKER

FILE = "tracker.json"  # in a run directory: the tracker, and what it calls the run
PROJECT = "rin-diffussm"  # where the environment names none
MOST_PARAMS = 100  # that MLflow takes at once


class Tracker(Protocol):
    """A run as its tracker knows it."""

    def write(
        self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]
    ) -> None:
        """Record values after `step` updates; images are (H, W, 3) uint8."""

    def close(self) -> None:
        """Return once all is recorded."""


class WandbTracker:
    """A run of Weights & Biases.

    Args:
      workdir: the run directory, in which it keeps its own files.
      run: the run's id there, a new one or one to continue.
      config: values by their full names.
    """

    def __init__(self, workdir: Path, run: str, config: Mapping[str, Any]):
        import wandb  # imported here: it is an extra

        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=run,
                resume="allow",
                name=workdir.resolve().name,
                dir=workdir,
                config=dict(config),
                allow_val_change=True,
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            raise _refused("wandb", error) from error
        self._image = wandb.Image
        if not self._run.offline:
            say(f"Weights & Biases: {self._run.url}")

    def write(
        self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]
    ) -> None:
        """Record values; those of a step before the last that it knows are dropped by W&B."""
        shown = {name: self._image(pixels) for name, pixels in images.items()}
        self._run.log({**scalars, **shown}, step=step)

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


class MlflowTracker:
    """A run of MLflow.

    Args:
      workdir: the run directory.
      run: the run's id there, None for a new one.
      config: values by their full names.
    """

    def __init__(self, workdir: Path, run: str | None, config: Mapping[str, Any]):
        from mlflow import MlflowClient, MlflowException  # imported here: they are an extra
        from mlflow.entities import Metric, Param

        self._metric, self._failure = Metric, MlflowException
        try:
            self._client = client = MlflowClient()
            if run is None:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
                experiment = client.get_experiment_by_name(name)
                number = experiment.experiment_id if experiment else client.create_experiment(name)
                run = client.create_run(number, run_name=workdir.resolve().name).info.run_id
                params = [Param(field, str(value)) for field, value in config.items()]
                for first in range(0, len(params), MOST_PARAMS):
                    client.log_batch(run, params=params[first : first + MOST_PARAMS])
            self.run = run
            client.update_run(run, status="RUNNING")
            client.log_dict(run, dict(config), "config.json")  # params cannot change, this can
        except MlflowException as error:
            raise _refused("mlflow", error) from error

    def write(
        self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]
    ) -> None:
        """Record values. A server that refuses them is a warning, and training goes on."""
        now = int(1000 * time.time())
        values = [self._metric(name, value, now, step) for name, value in scalars.items()]
        try:
            self._client.log_batch(self.run, metrics=values)
            for name, pixels in images.items():
                self._client.log_image(self.run, pixels, key=name, step=step)
        except self._failure as error:
            warn(f"MLflow has no values of step {step}: {_first_line(error)}")

    def close(self) -> None:
        """Say that the run has ended; training that continues says that it goes on."""
        try:
            self._client.set_terminated(self.run)
        except self._failure as error:
            warn(f"MLflow was not told that the run has ended: {_first_line(error)}")


def open_tracker(name: str, workdir: Path, config: Mapping[str, Any]) -> Tracker | None:
    """Start or continue the run of a tracker; None for none, and in all processes but the main one.

    Args:
      name: 'wandb', 'mlflow' or 'none'.
      workdir: the run directory, which keeps the run's id in tracker.json.
      config: values by their full names.

    Raises:
      UserError: if the package is not installed, or the tracker refuses the run.
    """
    if name == "none":
        return None
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"train.tracker is {name}, which is not installed: pip install -e '.[{name}]'"
        )
    if not is_main():
        return None
    path, run = workdir / FILE, None
    if path.exists():
        known = read_json(path, TRACKER)
        run = known["run"] if known["tracker"] == name else None
    tracker: WandbTracker | MlflowTracker
    if name == "wandb":
        run = run or uuid.uuid4().hex[:8]
        tracker = WandbTracker(workdir, run, config)
    else:
        tracker = MlflowTracker(workdir, run, config)
        run = tracker.run
    write_json(path, {"tracker": name, "run": run})
    return tracker


def _refused(name: str, error: Exception) -> UserError:
    return UserError(
        f"train.tracker is {name}, which says: {_first_line(error)}; set it up, or choose "
        f"--config.train.tracker=none, or delete {FILE} for a new run of it"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
