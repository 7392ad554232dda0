"""Decode images to grey or RGB, and to pixels."""

import io
import math
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from diffusion_jax.data.records import BadRecord, decoding
from diffusion_jax.errors import UserError
from diffusion_jax.storage.untrusted import machine_memory

LARGEST = 2**29  # bytes of an encoded image; `PIL.Image.MAX_IMAGE_PIXELS` of RGB are half of it
# Pixels of a square that is read again.
LARGEST_SIDE = math.isqrt(Image.MAX_IMAGE_PIXELS or LARGEST // 6)
# What cannot be read is refused below; a warning before it would be a second line.
warnings.filterwarnings("ignore", module=r"PIL\.")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MODES = {1: "L", 3: "RGB"}
UPRIGHT = {  # EXIF orientation -> what turns the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(encoded: bytes, channels: int, background: str = "white") -> Image.Image:
    """Decode an image to mode L or RGB, turned upright by its EXIF orientation.

    See `to_mode` for the conversions. Of several frames or pages the first is taken. Colour
    profiles are not applied, as in the papers. JPEGs are decoded in full, never at a DCT scale,
    which would change what the papers' resizing gives. A cut JPEG that some tool has closed with an
    end marker is a valid one for the decoder, grey where it was cut.

    Args:
      encoded: a JPEG, PNG, WebP, GIF, BMP or TIFF.
      channels: 1 (grey) or 3 (RGB).
      background: the colour behind transparent pixels.

    Raises:
      BadRecord: for what is not such an image, is truncated or damaged, or has more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS`.
      UserError: for other channels.
    """
    with decoding():
        image = open_image(encoded)
        # How a PNG stores its pixels, in Pillow's words ('L;4'), which loading them forgets.
        stored = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
        image.load()  # a PNG's EXIF may follow its pixels
        _scale_transparent_colour(image, stored)
        turn = UPRIGHT.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        return to_mode(upright, channels, background)


def _scale_transparent_colour(image: Image.Image, stored: str) -> None:
    """Bring a PNG's transparent colour to 8 bits, as Pillow does with the pixels alone.

    Raises:
      BadRecord: for one in 16-bit RGB, whose low bytes the pixels have lost.
    """
    key = image.info.get("transparency")
    if key is None:
        return
    if stored in ("L;2", "L;4"):
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}[stored]
    elif stored == "RGB;16B":
        raise BadRecord(
            "has a transparent colour of 16 bits: save it with an alpha channel, or with 8 bits"
        )


def open_image(encoded: bytes, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile:
    """Read the header of an image, not its pixels yet. Raise `BadRecord` where that fails."""
    if not encoded:
        raise BadRecord("is empty, zero bytes: replace or remove it")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries turn it on: missing rows would be grey
    try:
        image = Image.open(io.BytesIO(encoded), formats=formats)
    except UnidentifiedImageError as error:
        raise BadRecord(
            f"is none of {', '.join(formats)} (it starts with {encoded[:8]!r}): remove it"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord(f"has too many pixels ({error}): make it smaller") from error
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise BadRecord(
            f"has too many pixels ({image.height} x {image.width}, more than "
            f"{Image.MAX_IMAGE_PIXELS}): make it smaller"
        )
    return image


def check_frames(count: int, width: int, height: int) -> None:
    """Raise `BadRecord` for frames that, decoded at once, would take half of this machine's memory.

    Pillow holds a pixel in 4 bytes, and needs about 1 kB for each image besides.
    """
    size, memory = count * (4 * width * height + 1024), machine_memory()
    if size > memory / 2:
        raise BadRecord(
            f"{count} frames of {height} x {width} take {size / 2**30:,.1f} GiB, and this machine "
            f"has {memory / 2**30:,.1f} GiB of memory: cut it into shorter clips"
        )


def pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels (H, W, C), uint8, of an image of mode L (C = 1) or RGB (3)."""
    return np.array(image).reshape(image.height, image.width, -1)


def from_pixels(values: np.ndarray) -> Image.Image:
    """Return the image of mode L or RGB of uint8 pixels (H, W, C): the inverse of `pixels`."""
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def to_mode(image: Image.Image, channels: int, background: str = "white") -> Image.Image:
    """Convert an image of any mode to L (1 channel) or RGB (3).

    Transparent pixels are composited on `background`. 16-bit grey keeps its high byte, as Pillow
    does with 16-bit colour. Grey is the ITU-R 601 luma.

    Raises:
      BadRecord: for 32-bit pixels, which have no agreed white.
      UserError: if `channels` is neither 1 nor 3.
    """
    if channels not in MODES:
        raise UserError(f"channels is {channels}: images are decoded to 1 (grey) or 3 (RGB)")
    if image.mode in ("I", "F"):
        raise BadRecord(f"has 32-bit pixels (mode {image.mode}): save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        wide, key = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray((wide >> 8).astype(np.uint8))
        if key is not None:  # the one grey that is transparent, in 16 bits
            image.putalpha(Image.fromarray(np.where(wide == key, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    mode = MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def is_plain(encoded: bytes, channels: int) -> bool:
    """Return whether any reader decodes a JPEG or PNG as `decode_image`: upright, opaque, 8 bits.

    Args:
      encoded: an image that `decode_image` takes.
    """
    image = open_image(encoded)
    image.load()
    plain = image.mode == MODES[channels] and not image.has_transparency_data
    return plain and image.format in ("JPEG", "PNG") and _orientation(image) not in UPRIGHT


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 0 if there is none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 0)
    except Exception:  # Pillow raises anything on broken EXIF; like any viewer, show it as stored
        return 0
