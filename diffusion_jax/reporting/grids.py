"""Pictures of samples: tiles in full rows, with words above and beside them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange, repeat
from PIL import Image, ImageDraw, ImageFont

from diffusion_jax.storage.files import write_atomically, writing

LETTER = 13  # pixels
SHORTEST_SIDE = 32  # pixels, to be seen at all
MOST_COLUMNS = 16  # of classes in turn, a column for each
MARK = (214, 120, 90)  # the colour around frames that were given


def evenly(length: int, count: int) -> np.ndarray:
    """Return at most `count` of range(length), evenly spread, the first and the last included."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(int)


def grid_columns(count: int, period: int = 1) -> int:
    """Return how many columns fill the rows of a grid best: a multiple of `period`.

    Of the widths from a square's to half as much again, it is the one that leaves the fewest tiles
    of the last row empty.
    """
    narrowest = period * math.ceil(math.ceil(math.sqrt(count)) / period)
    return min(
        range(narrowest, narrowest * 3 // 2 + 1, period), key=lambda columns: -count % columns
    )


def image_grid(
    images: np.ndarray,
    columns: int,
    shortest_side: int = SHORTEST_SIDE,
    marked: np.ndarray | bool = False,
) -> np.ndarray:
    """Tile images row by row.

    Args:
      images: (N, H, W, C) uint8.
      columns: of the grid.
      shortest_side: of a tile, pixels; smaller images are enlarged by whole factors.
      marked: (N,) bool, which images have a line of the colour `MARK` around them.

    Returns:
      (rows, columns, 3) uint8 pixels, a white line around the other tiles.
    """
    factor = -(-shortest_side // min(images.shape[1:3]))
    images = repeat(images, "n h w c -> n (h f) (w g) c", f=factor, g=factor)
    count, height, width, _ = images.shape
    places = -(-count // columns) * columns
    tiles = np.full((places, height + 2, width + 2, 3), 255, np.uint8)
    tiles[:count][np.broadcast_to(marked, count)] = MARK
    tiles[:count, 1:-1, 1:-1] = images
    return rearrange(tiles, "(row column) h w c -> (row h) (column w) c", column=columns)


def headed_grid(
    images: np.ndarray,
    columns: int,
    *,
    heads: Sequence[str] = (),
    names: Sequence[str] = (),
    captions: Sequence[str] = (),
    shortest_side: int = 48,
    marked: np.ndarray | bool = False,
) -> np.ndarray:
    """Return an `image_grid` with words.

    Args:
      images: (N, H, W, C) uint8.
      heads: over the columns, () for none.
      names: beside the rows, () for none.
      captions: over every image, () for none.

    Returns:
      (height, width, 3) uint8 pixels.
    """
    grid = image_grid(images, columns, shortest_side, marked)
    rows = -(-len(images) // columns)
    grid = rearrange(grid, "(row h) w c -> row h w c", row=rows)
    if captions:
        grid = np.pad(grid, ((0, 0), (LETTER + 3, 0), (0, 0), (0, 0)), constant_values=255)
    height, width = grid.shape[1], grid.shape[2] // columns
    font = ImageFont.load_default(LETTER)
    top = LETTER + 8 if heads else 0
    left = int(max(map(font.getlength, names))) + 8 if names else 0
    image = Image.new("RGB", (left + grid.shape[2], top + rows * height), "white")
    image.paste(Image.fromarray(rearrange(grid, "row h w c -> (row h) w c")), (left, top))
    draw = ImageDraw.Draw(image)
    for column, head in enumerate(heads):
        draw.text((left + (column + 0.5) * width, top / 2), head, "black", font, "mm")
    for row, name in enumerate(names):
        draw.text((left - 4, top + (row + 0.5) * height), name, "black", font, "rm")
    for place, caption in enumerate(captions):
        row, column = divmod(place, columns)
        at = left + (column + 0.5) * width, top + row * height + LETTER / 2 + 1
        draw.text(at, caption, "black", font, "mm")
    return np.asarray(image)


def sample_grid(
    samples: np.ndarray, labels: np.ndarray | None = None, before: np.ndarray | None = None
) -> np.ndarray:
    """Lay out samples with their classes, in full rows.

    Classes that come in turn have a column each, and samples of an incomplete last row are left
    out; other classes stand over their samples. A video is a row of frames, its class beside it.

    Args:
      samples: (N, H, W, C) uint8 images, or (N, T, H, W, C) videos.
      labels: (N,) integers, None for a model without classes.
      before: (N, frames, H, W, C) uint8, the given frames of videos, which are marked; None for
        videos that continue none.

    Returns:
      (rows, columns, 3) uint8 pixels.
    """
    texts = [] if labels is None else labels.astype(str).tolist()
    if samples.ndim == 5:
        given = 0 if before is None else before.shape[1]
        videos = samples if before is None else np.concatenate([before, samples], axis=1)
        count, frames = videos.shape[:2]
        marked = np.tile(np.arange(frames) < given, count)
        words = ["given", *[""] * (given - 1), "drawn"] if given else []
        images = rearrange(videos, "n t h w c -> (n t) h w c")
        return headed_grid(images, frames, heads=words, names=texts, marked=marked)
    period = _period(labels)
    columns = min(grid_columns(len(samples), period), len(samples))
    if period == 1:
        return headed_grid(samples, columns, captions=texts, shortest_side=SHORTEST_SIDE)
    shown = len(samples) // columns * columns
    return headed_grid(samples[:shown], columns, heads=texts[:columns], shortest_side=SHORTEST_SIDE)


def _period(labels: np.ndarray | None) -> int:
    """Return after how many samples the labels repeat, 1 if no columns show it."""
    if labels is None:
        return 1
    lengths = range(1, min(MOST_COLUMNS, len(labels) // 2) + 1)
    return next((n for n in lengths if (labels == np.resize(labels[:n], len(labels))).all()), 1)


def save_grid(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (rows, columns, 3) as a PNG, atomically, its folder made if need be."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    write_atomically(path, lambda partial: image.save(partial, format="png"))
