"""Resize images to Inception's 299 x 299 by one of three conventions, whose FIDs differ.

    tf1          TensorFlow 1: guided-diffusion's evaluator, and with it the published ImageNet FIDs
    half_pixel   pytorch-fid
    clean        clean-fid

The first two interpolate linearly between the two nearest rows and columns even where they shrink
an image, and so alias; `clean` does not (arXiv 2104.11222).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.evaluation.inception import SIDE


def tf1(images: jax.Array) -> jax.Array:
    """Resize as TensorFlow 1 does (guided-diffusion's evaluator, TF-GAN).

    A pixel is a point at its upper left corner: source = destination * size / 299. The result is
    (x - 128) / 128.

    Args:
      images: (B, H, W, C) uint8.

    Returns:
      (B, 299, 299, C) float32 in [-1, 1).
    """
    return (bilinear(images, SIDE) - 128) / 128


def half_pixel(images: jax.Array) -> jax.Array:
    """Resize as pytorch-fid does.

    A pixel is a point at its centre: source = max((destination + 1/2) * size / 299 - 1/2, 0). The
    result is 2 x / 255 - 1.

    Args:
      images: (B, H, W, C) uint8.

    Returns:
      (B, 299, 299, C) float32 in [-1, 1].
    """

    def source(target: np.ndarray, scale: np.float32) -> np.ndarray:
        return np.maximum((target + np.float32(0.5)) * scale - np.float32(0.5), 0)

    return bilinear(images, SIDE, source) / 127.5 - 1


def clean(images: jax.Array) -> jax.Array:
    """Resize as clean-fid does: Pillow's bicubic filter on float channels.

    The filter antialiases. Its result is clipped to [0, 255] but not rounded, and becomes
    (x - 128) / 128.

    Args:
      images: (B, H, W, C) uint8.

    Returns:
      (B, 299, 299, C) float32 in [-1, 1).
    """
    x = images.astype(jnp.float32)
    rows, columns = (_bicubic_weights(size) for size in x.shape[1:3])
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("jw,bhwc->bhjc", columns, x, precision=exact)
    x = jnp.einsum("ih,bhjc->bijc", rows, x, precision=exact)
    return (jnp.clip(x, 0, 255) - 128) / 128


RESIZES = {"tf1": tf1, "half_pixel": half_pixel, "clean": clean}


def _bicubic_weights(size: int) -> np.ndarray:
    """Return weights (299, size) float32 of the source pixels: Keys's kernel, a = -1/2, as Pillow.

    `jax.image.resize` computes them in float32, which moves pixels by up to 0.01 of 255.
    """
    stretch = max(size / SIDE, 1)  # the kernel widens where the image shrinks: the antialiasing
    centres = (np.arange(SIDE) + 0.5) * size / SIDE
    d = np.abs(np.arange(size) + 0.5 - centres[:, None]) / stretch
    near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = np.where(d < 1, near, np.where(d < 2, far, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def bilinear(
    images: jax.Array,
    side: int,
    source: Callable[[np.ndarray, np.float32], np.ndarray] = lambda target, scale: target * scale,
) -> jax.Array:
    """Interpolate images (B, H, W, C) uint8 linearly to (B, side, side, C) float32 in [0, 255].

    Args:
      source: (target rows or columns, size / side) -> their places in the source image; TensorFlow
        1's by default.
    """
    x = images.astype(jnp.float32)
    for axis in (1, 2):
        position = source(np.arange(side, dtype=np.float32), np.float32(x.shape[axis] / side))
        lower = np.floor(position).astype(np.int32)
        weight = np.expand_dims(position - lower.astype(np.float32), (0, 3 - axis, 3))
        below, above = (x.take(i, axis, mode="clip") for i in (lower, lower + 1))
        x = below + (above - below) * weight
    return x
