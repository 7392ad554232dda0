"""Pictures of samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange, repeat
from PIL import Image, ImageDraw, ImageFont

from diffusion_jax.storage.files import write_atomically, writing

LETTER = 13  # pixels
SHORTEST_SIDE = 32  # pixels, to be seen at all


def evenly(length: int, count: int) -> np.ndarray:
    """Return at most `count` of range(length), evenly spread, the first and the last included."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(int)


def image_grid(images: np.ndarray, columns: int, shortest_side: int = SHORTEST_SIDE) -> np.ndarray:
    """Tile images row by row.

    Args:
      images: (N, H, W, C) uint8 images, or (N, T, H, W, C) videos, a row of frames each.
      columns: of the grid; a video takes a whole row.
      shortest_side: of a tile, pixels; smaller images are enlarged by whole factors.

    Returns:
      (rows, columns, 3) uint8 pixels, a white line between tiles.
    """
    if images.ndim == 5:
        columns = images.shape[1]
        images = rearrange(images, "n t h w c -> (n t) h w c")
    factor = -(-shortest_side // min(images.shape[1:3]))
    images = repeat(images, "n h w c -> n (h f) (w g) c", f=factor, g=factor)
    empty = -len(images) % columns  # tiles of the last row
    padding = ((0, empty), (1, 1), (1, 1), (0, 0))
    tiles = np.pad(images, padding, constant_values=255)
    grid = rearrange(tiles, "(row column) h w c -> (row h) (column w) c", column=columns)
    return np.broadcast_to(grid, (*grid.shape[:2], 3))


def headed_grid(
    rows: np.ndarray, heads: Sequence[str] = (), names: Sequence[str] = ()
) -> np.ndarray:
    """Return an `image_grid` of larger tiles, with words.

    Args:
      rows: (rows, columns, H, W, C) uint8.
      heads: over the columns, () for none.
      names: beside the rows, () for none.

    Returns:
      (height, width, 3) uint8 pixels.
    """
    grid = image_grid(rearrange(rows, "row column ... -> (row column) ..."), rows.shape[1], 48)
    height, width = grid.shape[0] // rows.shape[0], grid.shape[1] // rows.shape[1]
    font = ImageFont.load_default(LETTER)
    top = LETTER + 8 if len(heads) else 0
    left = int(max(font.getlength(name) for name in names)) + 8 if len(names) else 0
    image = Image.new("RGB", (left + grid.shape[1], top + grid.shape[0]), "white")
    image.paste(Image.fromarray(np.ascontiguousarray(grid)), (left, top))
    draw = ImageDraw.Draw(image)
    for column, head in enumerate(heads):
        draw.text((left + (column + 0.5) * width, top / 2), head, "black", font, "mm")
    for row, name in enumerate(names):
        draw.text((left - 4, top + (row + 0.5) * height), name, "black", font, "rm")
    return np.asarray(image)


def save_grid(path: Path, images: np.ndarray, columns: int) -> np.ndarray:
    """Write `image_grid` as a PNG, atomically, and return its pixels."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.ascontiguousarray(image_grid(images, columns))
    image = Image.fromarray(pixels)
    write_atomically(path, lambda partial: image.save(partial, format="png"))
    return pixels
