"""Quality of a run's samples by sampler and number of steps.

The measure is one that every run on images has: the Frechet distance of FID, of the pixels instead
of Inception's features, averaged over boxes down to 8 x 8. It sees layout and colour, not texture:
for numbers to compare with others' use launch.evaluate.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.data.sources import Source
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.evaluation.frechet import Gaussian, Moments, frechet_distance
from diffusion_jax.experiment.build import build, build_source
from diffusion_jax.experiment.drawing import Run, parse_labels
from diffusion_jax.reporting import style
from diffusion_jax.sampling.samplers import SAMPLERS

NUM = 500  # samples for each point
MOST_REAL = 10_000  # examples that they are compared with
SIDE = 8  # pixels
PASSES = (5, 10, 20, 50, 100)  # of the network, for one sample


class Quality(NamedTuple):
    """What was measured.

    Attributes:
      curves: {sampler: [(passes of the network for a sample, distance), ...]}.
      real: distance of as many real images.
      num: samples for each point.
    """

    curves: dict[str, list[tuple[int, float]]]
    real: float
    num: int

    def values(self) -> dict[str, Any]:
        """Return what the caption of the picture mentions."""
        best = {
            sampler: min(points, key=lambda point: point[1])
            for sampler, points in self.curves.items()
        }
        lowest = ", ".join(f"{name} {distance:.3g} ({n})" for name, (n, distance) in best.items())
        return dict(num=self.num, side=SIDE, lowest=lowest)


def check(config: ConfigDict, changes: Mapping[str, Any]) -> None:
    """Raise `UserError` where quality cannot be measured.

    Args:
      changes: the fields of sampling that the user chose.
    """
    if "sampler" in changes or "steps" in changes:
        raise UserError("--show=steps compares samplers and steps: leave out --sampler and --steps")
    if "spacing" in changes:
        raise UserError("--show=steps spaces each sampler as suits it: leave out --spacing")
    experiment = build(config)
    if experiment.autoencoder is not None or len(experiment.sample_shape) != 3:
        raise UserError(
            "--show=steps compares the pixels of images with the training data, and these are "
            "latents or videos: score them by launch.evaluate or launch.evaluate_videos"
        )


def measure(run: Run, num: int) -> Quality:
    """Draw `num` samples, the same noise and labels, for every sampler and number of steps.

    Raises:
      UserError: for fewer than 2 samples.
    """
    check_at_least("num", num, 2)
    real, as_many = _of_data(build_source(run.config, run.experiment), num, run.seed)
    indices = np.arange(num)
    labels = parse_labels("", run.seed, num, run.experiment.num_classes)
    sampling = run.experiment.sampling
    stochastic = sampling.sampler if sampling.algorithm.adds_noise else "ddpm"
    deterministic = (name for name, sampler in SAMPLERS.items() if not sampler.adds_noise)
    curves = {name: [] for name in (stochastic, *deterministic)}
    with progress(len(curves) * len(PASSES), "points") as bar:
        for passes in PASSES:
            for name, points in curves.items():
                count = SAMPLERS[name].passes
                steps = max(n for n in range(1, passes + 1) if n == 1 or count(n) <= passes)
                changed = dataclasses.replace(sampling, sampler=name, steps=steps, spacing="auto")
                experiment = dataclasses.replace(run.experiment, sampling=changed)
                images = dataclasses.replace(run, experiment=experiment).draw(indices, labels)
                taken = count(steps) * (2 if sampling.guidance else 1)
                points.append((taken, frechet_distance(real, _gaussian(images))))
                bar.update()
    return Quality(curves, as_many, num)


def features(images: np.ndarray) -> np.ndarray:
    """Average images over boxes, to `SIDE` pixels at most.

    Args:
      images: (N, H, W, C) uint8.

    Returns:
      (N, d) float64 in [0, 1].
    """
    features = images / 255
    for axis in (1, 2):
        boxes = np.array_split(features, min(SIDE, images.shape[axis]), axis)
        features = np.stack([box.mean(axis) for box in boxes], axis)
    return features.reshape(len(images), -1)


def _gaussian(images: np.ndarray) -> Gaussian:
    vectors = features(images)
    moments = Moments(vectors.shape[1])
    moments.update(vectors)
    return moments.gaussian()


def _of_data(source: Source, num: int, seed: int) -> tuple[Gaussian, float]:
    """Return the moments of all the data, and the distance of `num` of them from the rest."""
    order = np.random.default_rng(seed).permutation(len(source))[:MOST_REAL]
    images = np.stack([source.read(int(index))["images"] for index in order])
    part = min(num, len(images) // 2)
    as_many = frechet_distance(_gaussian(images[:part]), _gaussian(images[part:]))
    return _gaussian(images), as_many


def plot(quality: Quality, path: Path) -> None:
    """Draw a line for each sampler, on logarithmic axes."""
    figure, panels = style.figure(6.4, 4.2)
    axes = panels[0, 0]
    for sampler, points in quality.curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=sampler)
    axes.axhline(quality.real, color="black", ls="--", lw=1, label="real images")
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="passes of the network for a sample", ylabel="Frechet distance of pixels")
    ticks = sorted({passes for points in quality.curves.values() for passes, _ in points})
    axes.set_xticks([tick for tick in ticks if tick % 5 == 0])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter("{x:.3g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    style.save(figure, path)
