"""Sample grids during training."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress, say
from diffusion_jax.data.sources import Source
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.drawing import Run
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.reporting.grids import sample_grid, save_grid
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.preemption import StopRequest
from diffusion_jax.training.state import TrainState

BATCH = 16  # samples at a time for each part of the mesh: a request to stop waits for no more


def draw_grids(
    config: ConfigDict,
    experiment: Experiment,
    source: Source,
    mesh: Mesh,
    folder: Path,
    stop: StopRequest,
) -> Callback:
    """Return a callback that draws samples of the EMA, from the same noise every time.

    It writes them to folder/STEP.png, and returns the picture for TensorBoard. It looks for a
    request to stop between batches of samples.

    Raises:
      UserError: see `Experiment.sampler`.
    """
    size = config.train.grid_size
    made = dict(config=config, experiment=experiment, mesh=mesh, seed=config.seed)
    run = Run(**made, batch_size=round_up(1, mesh) * BATCH, source=source)
    indices = np.arange(size)
    labels = indices % experiment.num_classes if experiment.num_classes else None
    sampler = experiment.sampler(mesh, config.seed)

    def file(step: int) -> Path:
        return folder / f"{step:08d}.png"

    def draw(step: int, state: TrainState) -> dict[str, np.ndarray]:
        now, drawn = dataclasses.replace(run, params=state.ema), []
        say(f"Drawing {size} samples for a grid, {experiment.sampling.steps} steps each...")
        with progress(size, "images") as bar:
            for batch in now.batches(sampler, indices, labels):
                drawn.append(batch.samples[: batch.wanted])
                bar.update(batch.wanted)
                stop.check()
        if not hosts.is_main():
            return {}
        pixels = sample_grid(np.concatenate(drawn), labels, run.frames_before(indices))
        save_grid(file(step), pixels)
        return {"grids": pixels}

    return Callback(config.train.grid_every, draw, lambda step: file(step).exists())
