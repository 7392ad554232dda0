"""FID of few samples during training: its curve, and the best checkpoint by it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress, say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.accumulator import Accumulator
from diffusion_jax.evaluation.judge import load_judge
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.drawing import Run, parse_labels
from diffusion_jax.experiment.sections import EvaluationConfig
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.reporting.metrics import values_of
from diffusion_jax.training.checkpoints import save_once
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.preemption import StopRequest
from diffusion_jax.training.state import TrainState

BATCH = 256  # samples at a time, and more if the mesh has more parts


def score_samples(
    config: ConfigDict, experiment: Experiment, mesh: Mesh, workdir: Path, stop: StopRequest
) -> Callback:
    """Return a callback that scores samples of the EMA, from the same noise every time.

    It returns FID, sFID and, if Inception's classifier is there, the Inception Score. The state
    with the lowest FID so far is kept in `workdir`/best. FID falls with the number of samples:
    compare only points of one curve. It looks for a request to stop between batches of samples.

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
    labels = parse_labels("", config.seed, section.num, experiment.num_classes)
    made = dict(config=config, experiment=experiment, mesh=mesh, seed=config.seed)
    run = Run(**made, batch_size=BATCH)
    earlier: list[float] = []  # FIDs of this run so far; the same on every host

    def evaluate(step: int, state: TrainState) -> dict[str, float]:
        accumulator = Accumulator(extraction, keep=0)
        now = dataclasses.replace(run, params=state.ema)
        say(f"Scoring {section.num:,} samples, {experiment.sampling.steps} steps each...")
        with progress(section.num, "images") as bar:
            for batch in now.batches(sampler, np.arange(section.num), labels):
                accumulator.update(judge.extract(batch.samples[: batch.wanted]))
                bar.update(batch.wanted)
                stop.check()
        metrics, _ = accumulator.result(reference)
        if not earlier:
            earlier.extend(fid for at, fid in values_of(workdir, "fid").items() if at < step)
        if metrics["fid"] < min(earlier, default=math.inf):
            save_once(workdir / "best", step, state)
        earlier.append(metrics["fid"])
        return metrics

    return Callback(
        config.train.eval_every, evaluate, lambda step: step in values_of(workdir, "fid")
    )
