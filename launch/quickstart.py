"""Scores the samples of a run on the digits: does a classifier see the digit that was asked for?

    python -m launch.quickstart --workdir=runs/digits

The classifier is a support vector machine trained on the real digits that the run was trained on.
The Frechet distance compares the pixels of the samples with theirs: lower is better. The last
figure is the distance to the nearest of them: were it much smaller than
that of held-out digits, the network would be memorising.
"""

from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from sklearn.metrics import pairwise_distances
from sklearn.svm import SVC

from diffusion_jax.console import say
from diffusion_jax.data.arrays import Arrays, digits
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.workdir import read_workdir
from launch.common import arguments, cli

COUNT = 500
GUIDANCE = 1.0


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


def score(images: np.ndarray, labels: np.ndarray, train: Arrays) -> tuple[float, float, float]:
    """How good, how like the real digits as a set, and how original samples are.

    Returns:
      The share that the classifier gives its label; the Frechet distance of the pixels to the
      training images, as in FID; the mean L2 distance to the nearest training image.

    Args:
      images: (N, 8, 8, 1) uint8; labels: (N,) integers.
      train: the source that the classifier learns from.
    """
    classifier = SVC(C=10.0).fit(_pixels(train.images), train.labels)
    pixels, real = _pixels(images), _pixels(train.images)
    agreement = np.mean(classifier.predict(pixels) == labels)
    nearest = pairwise_distances(pixels, real).min(axis=1).mean()
    return float(agreement), _frechet(pixels, real), float(nearest)


def _frechet(first: np.ndarray, second: np.ndarray) -> float:
    """|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of vectors."""
    mean = first.mean(axis=0) - second.mean(axis=0)
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The eigenvalues of C1 C2 are real and not negative; rounding alone makes them otherwise.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    return float(mean @ mean + np.trace(sum(covariances)) - 2 * roots.sum())


def variants(config: ConfigDict) -> dict[str, dict[str, float]]:
    """How to sample: as the config says, and what that network can be compared with."""
    made = {"samples": {}}
    if config.model.name == "rin":
        made["samples, latents not carried"] = {"carry_decay": 1.0}
    if config.objective.label_dropout:
        made[f"samples, guidance {GUIDANCE:g}"] = {"guidance": GUIDANCE}
    return made


def main(workdir: Path) -> None:
    """Samples in every variant, and prints their scores beside real digits'."""
    config = read_workdir(workdir)
    if config.data.name != "digits":
        raise UserError(f"--workdir {workdir} was trained on {config.data.name}, not on digits")
    train, held_out = digits("train"), digits("held_out")
    rows = [("real digits, held out", held_out.images, held_out.labels)]
    request = dict(num=COUNT, labels="0,1,2,3,4,5,6,7,8,9", seed=0, batch_size=COUNT)
    grids = []
    for name, changes in variants(config).items():
        changed = config.copy_and_resolve_references()
        changed.sampling.update(changes)
        out = sample(changed, workdir, None, request)
        with np.load(out / "samples.npz") as archive:
            rows.append((name, archive["arr_0"], archive["labels"]))
        grids.append(out / "grid.png")
    say(f"{'':30}{'classifier agrees':>19}{'Frechet distance':>18}{'nearest real':>14}")
    for name, images, labels in rows:
        agreement, frechet, nearest = score(images, labels, train)
        say(f"{name:30}{agreement:>19.1%}{frechet:>18.3f}{nearest:>14.2f}")
    say(f"Look at {grids[0]}: a column for each digit.")


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.", required=True)
    cli.run(lambda: main(Path(flags.FLAGS.workdir)), __doc__)
