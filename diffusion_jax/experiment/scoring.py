"""Score samples: draw them, measure them, and write a result with its provenance."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.data.sources import Source
from diffusion_jax.evaluation.accumulator import KEEP_SAMPLES
from diffusion_jax.evaluation.archives import ArrayOnDisk
from diffusion_jax.evaluation.fvd import frechet_video_distance
from diffusion_jax.evaluation.judge import Judge
from diffusion_jax.evaluation.results import FILE, Result, write_result
from diffusion_jax.experiment.exports import is_export, read_provenance
from diffusion_jax.experiment.features import accumulate, counted, examples_of, open_images
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.weights import NEWEST, Checkpoint
from diffusion_jax.experiment.workdir import code_version, read_run
from diffusion_jax.parallel import hosts
from diffusion_jax.storage.locks import lock_folder

VIDEO_BATCH = 64
Measured = tuple[dict[str, float], dict[str, int]]  # metrics and counts, see `Accumulator.result`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Samples to draw and score.

    Attributes:
      folder: a run directory, whose EMA weights are sampled, or an export.
      config: its config, with the sampling section to use.
      request: num, labels, seed and batch_size; see `samples.sample`.
      checkpoint: which checkpoint of a run to sample.
      out: folder to write the samples to; None for one in `folder`, named after the request.
    """

    folder: Path
    config: ConfigDict
    request: dict[str, Any]
    checkpoint: Checkpoint = NEWEST
    out: Path | None = None


def draw(job: Job, command: str) -> tuple[Path, Result]:
    """Draw the samples of a job.

    Args:
      command: the command line, for the result.

    Returns:
      The folder of samples.npz, and a result without metrics that says how they were made.
    """
    config, sampling = job.config, job.config.sampling
    out = sample(config, job.folder, job.out, job.request, checkpoint=job.checkpoint)
    request = read_request(out)
    if is_export(job.folder):
        provenance = read_provenance(job.folder)
        made = {name: provenance[name] for name in ("config", "step", "images_seen")}
        made["weights"] = {"denoiser": request["exported"]}
    else:
        step = request["step"]
        made = dict(config=read_run(job.folder)["config"], step=step)
        made["images_seen"] = step * config.train.batch_size
    return out, Result(
        **made,
        seed=job.request["seed"],
        sampler=sampling.sampler,
        steps=sampling.steps,
        guidance=sampling.guidance,
        command=command,
    )


def score(images: Path, out: Path, judge: Judge, about: Result) -> Result:
    """Score the images at a path and write the result to the folder `out`.

    Args:
      about: a result without metrics that says how the images were made; see `draw`.

    Raises:
      UserError: for images that cannot be read, or are not comparable with the reference.
    """
    opened, fingerprint = open_images(images)
    judge.extraction(opened.shape[1:3])  # before hours of work

    def measure() -> Measured:
        found = accumulate(opened, fingerprint, judge.extract, KEEP_SAMPLES, out)
        return found.result(judge.reference)

    return _scored(
        out, about, {"inception": judge.extract.weights}, judge.reference.about(), measure
    )


def score_videos(
    out: Path,
    source: Source,
    extract: Callable[[np.ndarray], np.ndarray],
    weights: str,
    about: Result,
) -> Result:
    """Score the videos of OUT/samples.npz by FVD, and write the result beside them.

    Args:
      source: the data whose first frames sample i continues, those of example i.
      extract: see `make_video_extractor`.
      weights: SHA-256 of I3D's weights.
      about: as for `score`.
    """
    samples = ArrayOnDisk(out / "samples.npz", "arr_0")
    count = len(samples)

    def measure() -> Measured:
        drawn = counted(samples.batches(VIDEO_BATCH), count)
        real = examples_of(source, count).batches(VIDEO_BATCH)
        fvd = frechet_video_distance(zip(real, drawn, strict=True), extract)
        return {"fvd": fvd}, {"samples": count, "reference": count}

    return _scored(out, about, {"i3d": weights}, {"fingerprint": source.fingerprint()}, measure)


def _scored(
    out: Path,
    about: Result,
    weights: dict[str, str],
    reference: dict[str, Any],
    measure: Callable[[], Measured],
) -> Result:
    """Complete a result with what `measure` finds, and write it to the folder `out`."""
    with hosts.held_by_main(lock_folder(out)):
        metrics, counts = measure()
        result = dataclasses.replace(
            about,
            metrics=metrics,
            counts=counts,
            weights=about.weights | weights,
            reference=reference,
            code=code_version(),
        )
        if hosts.is_main():
            write_result(out / FILE, result)
    return result
