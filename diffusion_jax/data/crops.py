"""Crop images of any size to the size of a model, as the papers do.

Each takes (image, height, width) to an image of that size, of the same mode, L or RGB, enlarging
small images too. An image that has the size already comes back bit for bit, since Pillow's resize
then copies.
"""

from collections.abc import Callable

from PIL import Image

from diffusion_jax.errors import UserError

Crop = Callable[[Image.Image, int, int], Image.Image]


def centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Crop as RIN: the largest centred region of that aspect ratio, then antialiased bicubic.

    The official code resizes in float; Pillow rounds to 8 bits along each axis.
    """
    region_height = min(image.height, max(1, round(image.width * height / width)))
    region_width = min(image.width, max(1, round(image.height * width / height)))
    region = _middle(image, region_height, region_width)
    return region.resize((width, height), Image.Resampling.BICUBIC)


def box_halving(image: Image.Image, height: int, width: int) -> Image.Image:
    """Crop as ADM, DiT and DiffuSSM: halve, then resize the shorter side, then crop.

    Halving, by means over 2 x 2 pixels, goes on while the shorter side is at least twice the size.

    Raises:
      UserError: unless height and width are equal.
    """
    if height != width:
        raise UserError(
            f"the crop box_halving makes squares and is asked for {height} x {width}: "
            "choose the crop centre"
        )
    while min(image.size) >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = height / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    return _middle(image.resize(scaled, Image.Resampling.BICUBIC), height, width)


def _middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut out the centre; where the margin is odd, its smaller half is above and to the left."""
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return image.crop((left, top, left + width, top + height))


CROPS: dict[str, Crop] = {"centre": centre, "box_halving": box_halving}
