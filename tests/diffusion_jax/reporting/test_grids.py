"""Grids have full rows, and every sample stands under or beside its class."""

import numpy as np
import pytest
from einops import rearrange

from diffusion_jax.reporting.grids import MARK, grid_columns, image_grid, sample_grid

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (100, 32, 32, 3), np.uint8)


def tiles(grid: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The images in a grid, without the lines around them."""
    height, width = grid.shape[0] // rows, grid.shape[1] // columns
    grid = grid[grid.shape[0] - rows * height :]
    found = rearrange(grid, "(r h) (c w) k -> (r c) h w k", h=height, w=width)
    return found[:, -33:-1, 1:33]


@pytest.mark.parametrize("count", range(1, 101))
def test_the_last_row_is_full_or_nearly_so(count):
    columns = grid_columns(count)
    rows = -(-count // columns)
    assert rows <= columns <= 3 * rows
    assert count % columns == 0 or count % columns >= columns / 2
    if (side := int(count**0.5)) ** 2 == count:
        assert columns == side


def test_classes_in_turn_have_a_column_each_and_rows_are_whole():
    labels = np.arange(100) % 10
    grid = sample_grid(IMAGES, labels)
    np.testing.assert_array_equal(grid[-340:], image_grid(IMAGES, 10))
    assert (grid[:-340] < 128).any()  # the heads
    np.testing.assert_array_equal(sample_grid(IMAGES[:64], labels[:64])[-204:], grid[-340:-136])
    two = sample_grid(IMAGES, np.arange(100) % 2)
    assert two.shape == grid.shape and (two[:-340] != grid[:-340]).any()


def test_other_classes_stand_over_their_samples():
    labels = RNG.integers(0, 1000, 64)
    grid = sample_grid(IMAGES[:64], labels)
    assert grid.shape[1] == 8 * 34
    np.testing.assert_array_equal(tiles(grid, 8, 8), IMAGES[:64])
    changed = sample_grid(IMAGES[:64], np.where(np.arange(64) == 9, labels + 1, labels))
    height = grid.shape[0] // 8
    rows, columns = np.nonzero((grid != changed).any(axis=-1))
    assert set(rows // height) == {1} and set(columns // 34) == {1}
    assert (rows % height).max() < height - 34
    np.testing.assert_array_equal(sample_grid(IMAGES[:64]), image_grid(IMAGES[:64], 8))


def test_a_video_is_a_row_whose_given_frames_are_marked():
    videos = rearrange(IMAGES[:12], "(n t) h w c -> n t h w c", n=2)
    given, drawn = videos[:, :2], videos[:, 2:]
    grid = sample_grid(drawn, np.array([3, 12]), given)[-2 * 66 :, -6 * 66 :]
    found = rearrange(grid, "(n h) (t w) c -> n t h w c", n=2, t=6)
    np.testing.assert_array_equal(found[:, :, 1:65:2, 1:65:2], videos)
    assert (found[:, :2, 0] == MARK).all() and (found[:, 2:, 0] == 255).all()
    assert sample_grid(drawn).shape == (2 * 66, 4 * 66, 3)
