"""How images become Inception's 299 x 299: two conventions, whose FIDs differ.

Both are bilinear between the two nearest rows and columns, also where they shrink: no antialias.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.evaluation.inception import SIDE


def tf1(images: jax.Array) -> jax.Array:
    """TensorFlow 1's, of the published ImageNet tables (guided-diffusion's evaluator, TF-GAN).

    source = destination * size / 299, and (x - 128) / 128.

    Args:
      images: (B, H, W, C) uint8.

    Returns:
      (B, 299, 299, C) float32 in [-1, 1).
    """
    return (bilinear(images, SIDE) - 128) / 128


def half_pixel(images: jax.Array) -> jax.Array:
    """pytorch-fid's.

    source = max((destination + 1/2) * size / 299 - 1/2, 0), and 2 x / 255 - 1.

    Args:
      images: (B, H, W, C) uint8.

    Returns:
      (B, 299, 299, C) float32 in [-1, 1].
    """

    def source(target: np.ndarray, scale: np.float32) -> np.ndarray:
        return np.maximum((target + np.float32(0.5)) * scale - np.float32(0.5), 0)

    return bilinear(images, SIDE, source) / 127.5 - 1


RESIZES = {"tf1": tf1, "half_pixel": half_pixel}


def bilinear(
    images: jax.Array,
    side: int,
    source: Callable[[np.ndarray, np.float32], np.ndarray] = lambda target, scale: target * scale,
) -> jax.Array:
    """(B, side, side, C) float32 in [0, 255]; `source` tells where a row or column is taken from.

    That of TensorFlow 1 unless told otherwise.
    """
    x = images.astype(jnp.float32)
    for axis in (1, 2):
        position = source(np.arange(side, dtype=np.float32), np.float32(x.shape[axis] / side))
        lower = np.floor(position).astype(np.int32)
        weight = np.expand_dims(position - lower.astype(np.float32), (0, 3 - axis, 3))
        below, above = (x.take(i, axis, mode="clip") for i in (lower, lower + 1))
        x = below + (above - below) * weight
    return x
