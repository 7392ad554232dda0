"""The quickstart's yardsticks, on real digits."""

import numpy as np

from diffusion_jax.data.arrays import digits
from diffusion_jax.evaluation.digits import score_digits


def test_scores_of_real_digits():
    train, held_out = digits("train"), digits("held_out")
    agreement, frechet, nearest = score_digits(held_out.images, held_out.labels, train)
    assert agreement > 0.96
    assert nearest > 0.5
    noise = np.random.default_rng(0).integers(0, 256, held_out.images.shape, np.uint8)
    assert score_digits(noise, held_out.labels, train)[1] > 20 * frechet

    agreement, frechet, nearest = score_digits(train.images, train.labels[::-1], train)
    assert agreement < 0.2  # labels of other digits
    assert abs(frechet) < 1e-6
    assert nearest < 1e-6
