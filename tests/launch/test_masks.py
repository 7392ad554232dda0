"""Masks select what is white and opaque, in every kind of picture, or are refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.given import parse_mask

STROKES = np.zeros((4, 6), bool)
STROKES[1, 1:5] = STROKES[2, 2] = True
WHITE = np.full(STROKES.shape, 255, np.uint8)
ALPHA = np.where(STROKES, 255, 0).astype(np.uint8)


def palette(*colours: int) -> Image.Image:
    """A palette image, entry 1 where the strokes are and entry 0 elsewhere."""
    image = Image.fromarray(STROKES.astype(np.uint8))
    image.putpalette([level for colour in colours for level in [colour] * 3])
    return image


def nearly(white: int, dtype: type) -> np.ndarray:
    """White strokes on a grey one level darker, which a key colour makes transparent."""
    return np.where(STROKES, white, white - 1).astype(dtype)


MASKS = {
    "grey": (ALPHA, {}),
    "one bit": (STROKES, {}),
    "16-bit grey": (ALPHA.astype(np.uint16) * 257, {}),
    "colour": (np.dstack([ALPHA] * 3), {}),
    "palette": (palette(0, 255), {}),
    "clear white": (np.dstack([WHITE] * 3 + [ALPHA]), {}),
    "clear black": (np.dstack([ALPHA] * 4), {}),
    "clear white, grey": (Image.merge("LA", [Image.fromarray(x) for x in (WHITE, ALPHA)]), {}),
    "clear palette": (palette(255, 255), {"transparency": 0}),
    "palette with alpha": (palette(255, 255), {"transparency": bytes([100, 200])}),
    "key grey": (nearly(255, np.uint8), {"transparency": 254}),
    "key 16-bit grey": (nearly(65535, np.uint16), {"transparency": 65534}),
    "key colour": (np.dstack([nearly(255, np.uint8)] * 3), {"transparency": (254, 254, 254)}),
    "half clear": (np.dstack([WHITE] * 3 + [np.where(STROKES, 128, 127).astype(np.uint8)]), {}),
}


def save(path, picture, **options) -> str:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize("kind", MASKS)
def test_white_and_opaque_is_drawn_anew(tmp_path, kind):
    picture, options = MASKS[kind]
    path = save(tmp_path / "mask.png", picture, **options)
    np.testing.assert_array_equal(parse_mask(path, STROKES.shape), STROKES)


@pytest.mark.parametrize("name", ["mask.webp", "mask.gif", "mask.tiff"])
def test_other_formats(tmp_path, name):
    clear = Image.fromarray(np.dstack([WHITE] * 3 + [ALPHA]))
    path = save(tmp_path / name, clear, **({"lossless": True} if name == "mask.webp" else {}))
    np.testing.assert_array_equal(parse_mask(path, STROKES.shape), STROKES)


@pytest.mark.parametrize(
    "picture, what",
    [
        (0 * WHITE, "nothing"),
        (WHITE, "the whole image"),
        (np.dstack([0 * WHITE] * 3 + [ALPHA]), "nothing"),  # black strokes
        (np.dstack([WHITE] * 3 + [0 * WHITE]), "nothing"),  # all clear
        (np.dstack([WHITE] * 3 + [WHITE]), "the whole image"),
    ],
)
def test_a_mask_that_selects_nothing_or_everything_is_refused(tmp_path, picture, what):
    path = save(tmp_path / "mask.png", picture)
    with pytest.raises(UserError, match=f"mask.png selects {what}: make white what is to be"):
        parse_mask(path, STROKES.shape)


def test_names():
    assert parse_mask("", (4, 6)).all()
    assert parse_mask("centre", (4, 6)).sum() == 2 * 4
    for side, opposite in (("left", "right"), ("top", "bottom")):
        np.testing.assert_array_equal(parse_mask(side, (5, 7)), ~parse_mask(opposite, (5, 7)))


def test_what_is_no_mask_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is \(4, 6\) and images are \(8, 8\)"):
        parse_mask(save(tmp_path / "mask.png", ALPHA), (8, 8))
    with pytest.raises(UserError, match="--mask is 'middle': give left, right"):
        parse_mask("middle", (4, 6))
    (tmp_path / "text.png").write_text("white")
    with pytest.raises(UserError, match=r"text\.png: is none of JPEG, PNG"):
        parse_mask(str(tmp_path / "text.png"), (4, 6))


def write_png(path, pixels: np.ndarray, bits: int, key: int) -> str:
    """Write a PNG of `bits` a channel, grey or RGB, whose colour `key` is transparent."""
    height, width = pixels.shape[:2]
    colours = pixels.size // (height * width)
    places = pixels.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    rows = np.packbits(places.reshape(height, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 3: 2}[colours], 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"tRNS": struct.pack(">H", key) * colours,
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return str(path)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_transparent_grey_is_one_of_the_bits_of_the_file(tmp_path, bits):
    path = write_png(tmp_path / "mask.png", nearly(2**bits - 1, int), bits, 2**bits - 2)
    np.testing.assert_array_equal(parse_mask(path, STROKES.shape), STROKES)


def test_a_transparent_colour_that_16_bits_tell_apart_is_refused(tmp_path):
    picture = np.dstack([nearly(65535, int)] * 3)
    path = write_png(tmp_path / "mask.png", picture, 16, 65534)
    with pytest.raises(UserError, match="a transparent colour of 16 bits: save it with an alpha"):
        parse_mask(path, STROKES.shape)
