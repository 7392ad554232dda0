"""What FID is checked against: changes that are the same every time, and grow."""

import itertools

import numpy as np

from diffusion_jax.data import arrays
from diffusion_jax.evaluation.distortions import DISTORTIONS


def test_changes_are_a_function_of_the_image_and_grow():
    digits = arrays.digits("held_out").images[:20].repeat(3, axis=3).repeat(4, 1).repeat(4, 2)
    for _, family in itertools.groupby(DISTORTIONS, key=lambda name: name.split()[0]):
        before = 0.0
        for name in family:
            changed, again = (
                np.stack([DISTORTIONS[name](image, i) for i, image in enumerate(digits)])
                for _ in range(2)
            )
            assert changed.dtype == np.uint8 and changed.shape == digits.shape
            np.testing.assert_array_equal(changed, again)
            distance = np.abs(changed.astype(float) - digits).mean()
            assert distance > before, name
            before = distance
