"""Sample grids during training."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.data.sources import Source
from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.reporting.grids import save_grid
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.state import TrainState


def grid_columns(num_classes: int) -> int:
    """Return a column for each class if there are at most 16 of them, else 8."""
    return num_classes if 1 < num_classes <= 16 else 8


def make_condition(
    experiment: Experiment, source: Source | None, indices: np.ndarray, labels: np.ndarray | None
) -> Condition:
    """Return what the samples of these indices are conditioned on.

    Args:
      source: sample i is given the first frames of example i mod N, if the model wants frames.
      labels: (B,) int32, None for a model without classes.
    """
    frames = None
    if experiment.conditioning_frames:
        videos = np.stack([source.read(int(i) % len(source))["images"] for i in indices])
        given = videos[:, : experiment.conditioning_frames]
        frames = process.to_model_range(given, experiment.objective.input_scale)
    return Condition(labels=None if labels is None else labels.astype(np.int32), frames=frames)


def draw_grids(
    config: ConfigDict, experiment: Experiment, source: Source, mesh: Mesh, folder: Path
) -> Callback:
    """Return a callback that draws samples of the EMA, from the same noise every time.

    It writes them to folder/STEP.png, and returns the picture for TensorBoard.

    Raises:
      UserError: see `Experiment.sampler`.
    """
    size = config.train.grid_size
    indices = np.arange(round_up(size, mesh), dtype=np.int32)
    labels = indices % experiment.num_classes if experiment.num_classes else None
    condition = make_condition(experiment, source, indices, labels)
    sampler = experiment.sampler(mesh, config.seed)

    def draw(step: int, state: TrainState) -> dict[str, np.ndarray]:
        images = sampler(state.ema, indices, condition)[:size]
        if not hosts.is_main():
            return {}
        columns = grid_columns(experiment.num_classes)
        return {"grids": save_grid(folder / f"{step:08d}.png", images, columns)}

    return Callback(config.train.grid_every, draw)
