"""Encoded images become pixels exactly, or are refused."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from diffusion_jax.data import images
from diffusion_jax.data.records import BadRecord, naming
from diffusion_jax.errors import UserError

WHITE = 255


def decode_image(encoded: bytes, channels: int) -> np.ndarray:
    """Its pixels."""
    return images.pixels(images.decode_image(encoded, channels))


def smooth(height: int, width: int) -> np.ndarray:
    """A colour picture (height, width, 3) without hard edges, which JPEG keeps within a few."""
    seeds = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(seeds).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | np.ndarray, form: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PICTURE = smooth(24, 40)
LUMA = np.array(Image.fromarray(PICTURE).convert("L"))[..., None]


@pytest.mark.parametrize(
    "form, options", [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_lossless_formats_come_back_bit_for_bit_and_grey_is_luma(form, options):
    encoded = encode(PICTURE, form, **options)
    np.testing.assert_array_equal(decode_image(encoded, 3), PICTURE)
    np.testing.assert_array_equal(decode_image(encoded, 1), LUMA)
    assert decode_image(encoded, 3).dtype == np.uint8
    assert decode_image(encoded, 3).flags.writeable


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpegs_come_back_closely(options):
    error = decode_image(encode(PICTURE, "JPEG", quality=95, **options), 3) - PICTURE.astype(int)
    assert np.abs(error).mean() < 4


def test_grey_images_give_equal_channels():
    for form in ("PNG", "JPEG"):
        colour = decode_image(encode(LUMA[..., 0], form, quality=95), 3)
        grey = decode_image(encode(LUMA[..., 0], form, quality=95), 1)
        np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(decode_image(encode(LUMA[..., 0]), 1), LUMA)


def test_palette_and_one_bit_images_give_their_colours():
    palette = Image.fromarray(PICTURE).quantize(16)
    np.testing.assert_array_equal(
        decode_image(encode(palette), 3), np.array(palette.convert("RGB"))
    )
    np.testing.assert_array_equal(
        decode_image(encode(palette, "GIF"), 3), np.array(palette.convert("RGB"))
    )
    bits = LUMA[..., 0] > 128
    np.testing.assert_array_equal(decode_image(encode(bits), 1)[..., 0], np.where(bits, 255, 0))


def test_cmyk_is_converted():
    encoded = encode(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(encoded)).mode == "CMYK"
    assert np.abs(decode_image(encoded, 3) - PICTURE.astype(int)).mean() < 8
    assert np.abs(decode_image(encoded, 1) - LUMA.astype(int)).mean() < 8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form):
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey = decode_image(encode(wide, form), 1)
    np.testing.assert_array_equal(grey[..., 0], np.repeat(np.arange(256)[:, None], 256, axis=1))
    np.testing.assert_array_equal(decode_image(encode(wide, form), 3)[..., 2], grey[..., 0])
    widened = LUMA[..., 0].astype(np.uint16) * 257  # how 8 bits are stored as 16
    np.testing.assert_array_equal(decode_image(encode(widened, form), 1), LUMA)


def test_sixteen_bit_colour_keeps_the_high_byte_too():
    rows = b"".join(b"\0" + np.repeat(row, 2, axis=-1).tobytes() for row in PICTURE)
    np.testing.assert_array_equal(decode_image(png(40, 24, 16, 2, rows), 3), PICTURE)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand; colour 0 is grey, 2 is RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparent_pixels_are_composited_on_white(form):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 255, 128
    encoded = encode(np.dstack([PICTURE, alpha]), form, lossless=True)
    pixels = decode_image(encoded, 3)
    np.testing.assert_array_equal(pixels[:, :10], PICTURE[:, :10])
    half = (PICTURE[:, 10:20].astype(float) * 128 + WHITE * 127) / 255
    np.testing.assert_allclose(pixels[:, 10:20], half, atol=1)
    assert (pixels[:, 20:] == WHITE).all()
    assert (decode_image(encoded, 1)[:, 20:] == WHITE).all()


def test_transparent_grey_palette_and_key_colours_are_white_too():
    grey_alpha = Image.fromarray(LUMA[..., 0]).convert("LA")
    grey_alpha.putalpha(Image.fromarray(np.zeros((24, 40), np.uint8)))
    key = Image.new("RGB", (4, 4), (10, 20, 30))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for encoded in (
        encode(grey_alpha),
        encode(key, transparency=(10, 20, 30)),
        encode(np.full((4, 4), 300, np.uint16), transparency=300),
        encode(palette, transparency=0),
        encode(palette, "GIF", transparency=0),
    ):
        for channels in (1, 3):
            assert (decode_image(encoded, channels) == WHITE).all()


# EXIF 2.3, tag 274: which sides of the upright picture the 0th row and 0th column are.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright.swapaxes(0, 1)[::-1],  # right, top
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_every_exif_orientation_is_turned_upright(orientation, form):
    stored = np.ascontiguousarray(STORED[orientation](PICTURE))
    exif = Image.Exif()
    exif[274] = orientation
    options = {"quality": 95} if form == "JPEG" else {"lossless": True}
    pixels = decode_image(encode(stored, form, exif=exif, **options), 3)
    assert pixels.shape == PICTURE.shape
    error = np.abs(pixels - PICTURE.astype(int))
    assert error.mean() < 4 if form == "JPEG" else error.max() == 0


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_does_not_cost_the_picture(exif, form):
    assert decode_image(encode(PICTURE, form, exif=exif), 3).shape == PICTURE.shape


@pytest.mark.parametrize(
    "form, options",
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {})],
)
def test_a_truncated_image_never_gives_other_pixels(form, options, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as another library leaves it
    encoded = encode(PICTURE, form, **options)
    whole, refused = decode_image(encoded, 3), 0
    for length in range(len(encoded)):
        try:
            pixels = decode_image(encoded[:length], 3)
        except BadRecord:
            refused += 1
        else:
            np.testing.assert_array_equal(pixels, whole)
    # All pixels of a PNG are there before its checksums and end marker.
    assert len(encoded) - refused <= (30 if form == "PNG" else 0)


def test_damaged_bytes_give_pixels_or_a_bad_record():
    rng = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        encoded = encode(PICTURE, form)
        for _ in range(60):
            damaged = bytearray(encoded)
            for place in rng.integers(0, len(encoded), 5):
                damaged[place] = rng.integers(0, 256)
            try:
                assert decode_image(bytes(damaged), 3).ndim == 3
            except BadRecord as error:
                assert "\n" not in str(error)


def test_what_is_no_image_is_refused():
    with pytest.raises(BadRecord, match="is empty, zero bytes"):
        decode_image(b"", 3)
    with pytest.raises(BadRecord, match=r"none of JPEG, PNG, .* starts with b'<!DOCTYP'"):
        decode_image(b"<!DOCTYPE html>", 3)
    with pytest.raises(BadRecord, match="truncated"):
        decode_image(encode(PICTURE, "JPEG")[:-100], 3)
    with pytest.raises(BadRecord, match="32-bit pixels"):
        decode_image(encode(Image.new("F", (4, 4)), "TIFF"), 3)


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first, refuses the second
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_decompression_bombs_are_refused(side, action):
    with warnings.catch_warnings(action=action), pytest.raises(BadRecord, match="too many pixels"):
        decode_image(png(side, side, 8, 0, b""), 1)


def test_channels_are_one_or_three():
    with pytest.raises(UserError, match="channels is 4"):
        decode_image(encode(PICTURE), 4)


def test_a_bad_record_is_named():
    with pytest.raises(BadRecord, match=r"^cats/3.png: is empty"), naming("cats/3.png"):
        decode_image(b"", 3)
