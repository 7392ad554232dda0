"""Pictures of samples."""

from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_jax.files import write_atomically

SHORTEST_SIDE = 32  # smaller images are enlarged by whole factors, to be seen at all


def image_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Tiles images row by row.

    Args:
      images: (N, H, W, C) uint8 images, or (N, T, H, W, C) videos, a row of frames each.
      columns: of the grid; a video takes a whole row.

    Returns:
      (rows, columns, 3) uint8 pixels, a white line between tiles.
    """
    if images.ndim == 5:
        columns = images.shape[1]
        images = images.reshape(-1, *images.shape[2:])
    factor = -(-SHORTEST_SIDE // min(images.shape[1:3]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    tiles = np.full((rows * columns, height + 2, width + 2, channels), 255, np.uint8)
    tiles[:count, 1:-1, 1:-1] = images
    grid = tiles.reshape(rows, columns, height + 2, width + 2, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + 2), columns * (width + 2), channels)
    return np.broadcast_to(grid, (*grid.shape[:2], 3)) if channels == 1 else grid


def save_grid(path: Path, images: np.ndarray, columns: int) -> None:
    """Writes `image_grid` as a PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(image_grid(images, columns)))
    write_atomically(path, lambda partial: image.save(partial, format="png"))
