"""What is sampled, a run or an export: its weights, and samples of indices, labels and gifts."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.data.sources import Source
from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.experiment.grid import make_condition
from diffusion_jax.experiment.weights import NEWEST, Checkpoint, load_weights
from diffusion_jax.parallel.sharding import Mesh, make_mesh, round_up
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.scan import random_labels

NEXT_WINDOW = 2**20  # between the indices whose noise a video's windows have: more than the videos


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, or an export, to be sampled.

    Attributes:
      step: of training, which `params` are of: the EMA, or what was exported.
      exported: SHA-256 of the export, None for a run.
      source: of the frames that videos continue, None where there are none.
      seed: decides all noise, with the samples' indices.
      batch_size: samples at a time.
    """

    config: ConfigDict
    experiment: Experiment
    params: Any
    step: int
    exported: str | None
    mesh: Mesh
    source: Source | None
    seed: int
    batch_size: int

    def draw(
        self,
        indices: np.ndarray,
        labels: np.ndarray | None,
        given: Given = NOTHING,
        watched: Sequence[int] = (),
    ) -> np.ndarray:
        """uint8 samples; see `diffusion_jax.sampling.scan.make_sampler`.

        Args:
          indices: (N,) of the samples, which decide their noise; equal ones share it.
          labels: (N,), None for a model without classes.
        """
        sampler = self.experiment.sampler(self.mesh, self.seed, watched=watched)
        batch = round_up(min(self.batch_size, len(indices)), self.mesh)
        parts = []
        with progress(len(indices), "images") as bar:
            for start in range(0, len(indices), batch):
                rows = np.minimum(np.arange(start, start + batch), len(indices) - 1)
                wanted = None if labels is None else labels[rows]
                which = indices[rows].astype(np.int32)
                condition = make_condition(self.experiment, self.source, which, wanted)
                part = jax.tree.map(lambda values, rows=rows: values[rows], given)
                parts.append(sampler(self.params, which, condition, part))
                bar.update(min(batch, len(indices) - start))
        return np.concatenate(parts)[: len(indices)]

    def extended(
        self,
        sampler: Callable[..., np.ndarray],
        videos: np.ndarray,
        indices: np.ndarray,
        condition: Condition,
        windows: int,
    ) -> np.ndarray:
        """Videos (B, T, H, W, C) uint8 and `windows` - 1 more of as many frames after them.

        Each window continues the last frames of what there is, with noise of its own.
        """
        scale, drawn = self.experiment.objective.input_scale, [videos]
        for window in range(1, windows):
            latest = np.asarray(process.to_model_range(drawn[-1], scale))
            frames = np.concatenate([condition.frames, latest], axis=1)
            condition = condition._replace(frames=frames[:, -self.experiment.conditioning_frames :])
            drawn.append(sampler(self.params, indices + window * NEXT_WINDOW, condition))
        return np.concatenate(drawn, axis=1)


def open_run(
    config: ConfigDict,
    workdir: Path,
    seed: int,
    batch_size: int,
    mesh: Mesh | None = None,
    checkpoint: Checkpoint = NEWEST,
    frames: Source | None = None,
) -> Run:
    """A checkpoint of a run, or an export.

    Args:
      config: of it, with the sampling section to use.
      workdir: the run directory, or the export's folder.
      mesh: to sample on, None for the config's.
      checkpoint: of a run.
      frames: what videos continue, None for the run's data.

    Raises:
      UserError: if there are no such weights, or the config does not fit it.
    """
    check_at_least("--batch_size", batch_size, 1)
    experiment = build(config)
    source = frames
    if source is None and experiment.conditioning_frames:
        source = build_source(config, experiment)
    mesh = mesh or make_mesh(**config.mesh)
    weights = load_weights(workdir, config, experiment, mesh, checkpoint)
    return Run(config, experiment, *weights, mesh, source, seed, batch_size)


def parse_labels(text: str, seed: int, num: int, num_classes: int) -> np.ndarray | None:
    """(num,) int32 labels: the given ones in turn, or uniform draws keyed by sample index.

    Raises:
      UserError: for labels that are no classes of the model.
    """
    if not text:
        return (
            np.asarray(random_labels(seed, jnp.arange(num), num_classes)) if num_classes else None
        )
    if not num_classes:
        raise UserError(f"--labels is {text}: this model has no classes; leave the flag out")
    try:
        labels = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--labels is {text!r}: give numbers with commas, as 3,1,4") from error
    for label in labels:
        if not 0 <= label < num_classes:
            raise UserError(f"--labels has {label}: the classes are 0 to {num_classes - 1}")
    return np.resize(np.array(labels, np.int32), num)
