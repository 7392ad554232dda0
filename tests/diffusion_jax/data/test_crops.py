"""Crops against their descriptions, and what no crop may change."""

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.data import crops
from diffusion_jax.data.images import pixels
from diffusion_jax.errors import UserError


def of_arrays(crop: crops.Crop):
    """The crop of (H, W, C) pixels."""

    def cropped(image: np.ndarray, height: int, width: int) -> np.ndarray:
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return pixels(crop(image, height, width))

    return cropped


centre, box_halving = of_arrays(crops.centre), of_arrays(crops.box_halving)
BOTH = pytest.mark.parametrize("crop", [centre, box_halving], ids=["centre", "box_halving"])
SIZES = [(48, 80), (80, 48), (33, 57), (16, 16), (7, 9), (200, 31)]


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)


@BOTH
@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_gets_the_size_and_a_constant_one_stays_constant(crop, height, width, channels):
    cropped = crop(np.full((height, width, channels), 77, np.uint8), 16, 16)
    assert cropped.shape == (16, 16, channels)
    assert cropped.dtype == np.uint8
    assert (cropped == 77).all()


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_comes_back_bit_for_bit(crop, channels):
    image = picture(16, 16, channels)
    np.testing.assert_array_equal(crop(image, 16, 16), image)


@BOTH
def test_an_image_too_long_on_one_side_only_is_not_resampled(crop):
    image = picture(16, 40)
    np.testing.assert_array_equal(crop(image, 16, 16), image[:, 12:28])
    image = picture(41, 16)  # an odd margin: the smaller half above
    np.testing.assert_array_equal(crop(image, 16, 16), image[12:28])


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mirrored_image_gives_the_mirrored_crop(crop, channels):
    image = picture(48, 72, channels)  # all margins are even
    for axis in (0, 1):
        mirrored = np.flip(crop(np.flip(image, axis), 16, 16), axis)
        np.testing.assert_array_equal(mirrored, crop(image, 16, 16))


@BOTH
def test_channels_do_not_mix(crop):
    image = picture(48, 80)
    expected = [crop(image[..., channel : channel + 1], 16, 16) for channel in range(3)]
    np.testing.assert_array_equal(crop(image, 16, 16), np.concatenate(expected, axis=-1))


@pytest.mark.parametrize("height, width", SIZES)
def test_centre_is_the_largest_square_then_antialiased_bicubic(height, width):
    image, side = picture(height, width), min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    np.testing.assert_allclose(
        centre(image, 12, 12), antialiased_bicubic(square, 12), rtol=0, atol=2
    )


def antialiased_bicubic(square: np.ndarray, size: int) -> np.ndarray:
    """In float: Keys' cubic with a = -1/2, stretched over the source where the image shrinks."""
    scale = len(square) / size
    stretch = max(scale, 1)
    centres = (np.arange(size) + 0.5) * scale - 0.5
    x = np.abs(np.arange(len(square)) - centres[:, None]) / stretch
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.clip(np.einsum("ij,hjc->hic", weights, square), 0, 255)  # Pillow clips in between
    return np.clip(np.einsum("ij,jwc->iwc", weights, rows), 0, 255)


def test_centre_keeps_the_targets_aspect_ratio():
    image = np.zeros((60, 100, 1), np.uint8)
    image[10:50] = 200  # 100 x 40 are the middle rows
    assert (centre(image, 8, 20) == 200).all()
    image = np.zeros((60, 100, 1), np.uint8)
    image[:, 35:65] = 200  # 30 x 60 are the middle columns
    assert (centre(image, 16, 8) == 200).all()
    assert centre(picture(2, 300), 300, 2).shape == (300, 2, 3)


@pytest.mark.parametrize("height, width", [*SIZES, (129, 65), (64, 64), (131, 260)])
def test_box_halving_against_its_description(height, width):
    image, size = picture(height, width), 16
    expected = image
    while min(expected.shape[:2]) >= 2 * size:
        expected = halved(expected)
    height, width = expected.shape[:2]
    longer = round(max(height, width) * size / min(height, width))
    shape = (size, longer) if height <= width else (longer, size)
    resized = Image.fromarray(expected).resize(shape[::-1], Image.Resampling.BICUBIC)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    expected = np.array(resized)[top : top + size, left : left + size]
    np.testing.assert_array_equal(box_halving(image, size, size), expected)


def halved(image: np.ndarray) -> np.ndarray:
    """Means of two columns, then of two rows, each rounded half up; for odd sides, Pillow's."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:  # pixels count in part
        half = (width // 2, height // 2)
        return np.array(Image.fromarray(image).resize(half, Image.Resampling.BOX))
    image = image.astype(np.uint16)
    image = (image[:, ::2] + image[:, 1::2] + 1) // 2
    return ((image[::2] + image[1::2] + 1) // 2).astype(np.uint8)


def test_box_halving_is_for_squares():
    with pytest.raises(UserError, match="asked for 16 x 32: choose the crop centre"):
        box_halving(picture(48, 80), 16, 32)
