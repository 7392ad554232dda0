"""Sample grids during training."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.data.sources import Source
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.drawing import Run
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.reporting.grids import sample_grid, save_grid
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.state import TrainState


def draw_grids(
    config: ConfigDict, experiment: Experiment, source: Source, mesh: Mesh, folder: Path
) -> Callback:
    """Return a callback that draws samples of the EMA, from the same noise every time.

    It writes them to folder/STEP.png, and returns the picture for TensorBoard.

    Raises:
      UserError: see `Experiment.sampler`.
    """
    size = config.train.grid_size
    made = dict(config=config, experiment=experiment, mesh=mesh, seed=config.seed)
    run = Run(**made, batch_size=size, source=source)
    indices = np.arange(size)
    labels = indices % experiment.num_classes if experiment.num_classes else None
    sampler = experiment.sampler(mesh, config.seed)

    def draw(step: int, state: TrainState) -> dict[str, np.ndarray]:
        now = dataclasses.replace(run, params=state.ema)
        (batch,) = now.batches(sampler, indices, labels)
        if not hosts.is_main():
            return {}
        pixels = sample_grid(batch.samples[:size], labels, run.frames_before(indices))
        save_grid(folder / f"{step:08d}.png", pixels)
        return {"grids": pixels}

    return Callback(config.train.grid_every, draw)
