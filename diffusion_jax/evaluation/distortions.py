"""Distortions of images that FID should grow with: noise, blur and JPEG."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Distortion = Callable[[np.ndarray, int], np.ndarray]  # (uint8 image (H, W, 3), index) -> image


def noise(scale: float) -> Distortion:
    """Return Gaussian noise of a standard deviation in grey levels, keyed by the image's index."""

    def distort(image: np.ndarray, index: int) -> np.ndarray:
        drawn = np.random.default_rng(index).normal(0, scale, image.shape)
        return np.clip(np.round(image + drawn), 0, 255).astype(np.uint8)

    return distort


def blur(radius: float) -> Distortion:
    """Return a Gaussian blur of a standard deviation in pixels."""
    kernel = ImageFilter.GaussianBlur(radius)
    return lambda image, _: np.asarray(Image.fromarray(image).filter(kernel))


def jpeg(quality: int) -> Distortion:
    """Return compression by JPEG of a quality from 1 to 95."""

    def distort(image: np.ndarray, _: int) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return distort


DISTORTIONS = {  # of each kind, ever stronger
    **{f"noise of {scale} grey levels": noise(scale) for scale in (4, 16, 64)},
    **{f"blur of {radius} pixels": blur(radius) for radius in (0.5, 1.0, 2.0)},
    **{f"JPEG of quality {quality}": jpeg(quality) for quality in (90, 50, 10)},
}
