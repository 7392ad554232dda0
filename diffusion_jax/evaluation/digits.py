"""Scores of samples of the digits, by classical tools that need no downloaded weights."""

import numpy as np
from einops import rearrange
from sklearn.metrics import pairwise_distances
from sklearn.svm import SVC

from diffusion_jax.data.arrays import Arrays
from diffusion_jax.evaluation.digit_scores import DigitScores
from diffusion_jax.evaluation.frechet import frechet_distance, gaussian_of


def score_digits(images: np.ndarray, labels: np.ndarray, train: Arrays) -> DigitScores:
    """Score images of digits against the real ones that a run was trained on.

    Args:
      images: (N, 8, 8, 1) uint8.
      labels: (N,) integers, the digits that were asked for.
      train: the source that the classifier, a support vector machine, learns from.
    """
    classifier = SVC(C=10.0).fit(_pixels(train.images), train.labels)
    pixels, real = _pixels(images), _pixels(train.images)
    return DigitScores(
        agreement=float(np.mean(classifier.predict(pixels) == labels)),
        frechet=frechet_distance(gaussian_of(pixels), gaussian_of(real)),
        nearest=float(pairwise_distances(pixels, real).min(axis=1).mean()),
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    return rearrange(images, "n h w c -> n (h w c)") / 255
