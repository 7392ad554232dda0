"""Sine-cosine codes of positions and of the noise level."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import repeat


def _rates(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rates 10000^(-2 floor(i/2) / dim) of sines (even i) and of cosines (odd i)."""
    rates = 1 / 10000 ** (2 * (np.arange(dim) // 2) / dim)
    return rates[0::2], rates[1::2]


def scalar_code(value: jax.Array, dim: int) -> jax.Array:
    """Encode scalars as sines, then cosines (not interleaved).

    Args:
      value: (B,) float.
      dim: number of features; an odd one gives one sine more than cosines.

    Returns:
      (B, dim), in the dtype of `value`.
    """
    sine, cosine = (jnp.asarray(rate, value.dtype) for rate in _rates(dim))
    value = value[:, None]
    return jnp.concatenate([jnp.sin(value * sine[None]), jnp.cos(value * cosine[None])], axis=-1)


def _line(length: int, dim: int, scale: float) -> np.ndarray:
    coordinate = (np.arange(length) / max(length - 1, 1) * scale)[:, None]
    sine, cosine = _rates(dim)
    return np.concatenate([np.sin(coordinate * sine), np.cos(coordinate * cosine)], axis=-1)


def position_table(grid: tuple[int, ...], dim: int, scale: float) -> np.ndarray:
    """Encode every position of a grid, in row-major order.

    Coordinates run over [0, scale]. Rows fill the first half of the channels, columns the second;
    a grid with a side of 1 gets a one-dimensional code; a video repeats its space code over time.
    Computed in float64 by NumPy: the angles reach `scale` radians.

    Args:
      grid: (N,), (rows, columns) or (times, rows, columns).
      dim: number of channels, even where the grid has two sides above 1.
      scale: the largest coordinate, radians.

    Returns:
      (prod(grid), dim) float64.
    """
    if len(grid) == 3:
        return np.tile(position_table(grid[1:], dim, scale), (grid[0], 1))
    if len(grid) == 1 or 1 in grid:
        return _line(int(np.prod(grid)), dim, scale)
    rows, columns = grid
    row = repeat(_line(rows, dim // 2, scale), "h d -> (h w) d", w=columns)
    column = repeat(_line(columns, dim // 2, scale), "w d -> (h w) d", h=rows)
    return np.concatenate([row, column], axis=-1)
