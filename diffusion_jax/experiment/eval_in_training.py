"""A smaller FID during training: its curve, and the best checkpoint by it."""

import math
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.accumulator import Accumulator
from diffusion_jax.evaluation.judge import load_judge
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.grid import make_condition
from diffusion_jax.experiment.schema import EvaluationConfig
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.reporting.metrics import METRICS, read_lines
from diffusion_jax.sampling.scan import random_labels
from diffusion_jax.training.checkpoints import save_once
from diffusion_jax.training.state import TrainState

BATCH = 256  # samples at a time, and more if the mesh has more parts


def make_evaluator(
    config: ConfigDict, experiment: Experiment, mesh: Mesh, workdir: Path
) -> Callable[[int, TrainState], dict[str, float]]:
    """(step, state) -> FID, sFID and, if it can be had, Inception Score of samples of the EMA.

    The samples are the same noise every time. The state with the lowest FID so far is kept in
    `workdir`/best. FID of fewer samples is higher: compare points of one curve only.

    Raises:
      UserError: for weights or a reference that cannot be read, or do not fit the samples.
    """
    section = EvaluationConfig(**config.evaluation)
    if experiment.conditioning_frames or len(experiment.sample_shape) != 3:
        raise UserError("train.eval_every is set: FID is of images; set it to 0 for videos")
    judge = load_judge(Path(section.reference), Path(section.inception), mesh)
    reference = judge.reference._replace(features=None)
    extraction = judge.extraction(experiment.image_shape[:2])
    sampler = experiment.sampler(mesh, config.seed)
    batch = round_up(min(BATCH, section.num), mesh)

    def samples(state: TrainState, start: int) -> np.ndarray:
        indices = np.arange(start, start + batch, dtype=np.int32)
        classes = experiment.num_classes
        labels = None
        if classes:
            labels = np.asarray(random_labels(config.seed, jnp.asarray(indices), classes))
        condition = make_condition(experiment, None, indices, labels)
        return sampler(state.ema, indices, condition)[: section.num - start]

    earlier: list[float] = []  # of this run until now, the same on every host

    def evaluate(step: int, state: TrainState) -> dict[str, float]:
        accumulator = Accumulator(extraction, keep=0)
        for start in range(0, section.num, batch):
            accumulator.update(judge.extract(samples(state, start)))
        metrics, _ = accumulator.result(reference)
        if not earlier:
            records = read_lines(workdir / METRICS)
            earlier.extend(r["fid"] for r in records if "fid" in r and r["step"] < step)
        if metrics["fid"] < min(earlier, default=math.inf):
            save_once(workdir / "best", step, state)
        earlier.append(metrics["fid"])
        return metrics

    return evaluate
