"""DiT's embeddings (arXiv 2212.09748) of timesteps, classes and positions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from diffusion_jax.denoiser import Condition
from diffusion_jax.parallel.axes import declare, dense_inits
from diffusion_jax.parallel.sharding import constrain, gathered

MAX_PERIOD = 10_000


def timestep_code(t: jax.Array, dim: int) -> jax.Array:
    """Encode timesteps as [cos | sin] at geometric frequencies from 1 down to nearly 1e-4.

    Args:
      t: (B,) timesteps.
      dim: number of features; where it is odd the last is 0.

    Returns:
      (B, dim) float32.
    """
    half = dim // 2
    frequencies = np.exp(-math.log(MAX_PERIOD) * np.arange(half) / half)
    angles = t.astype(jnp.float32)[:, None] * jnp.asarray(frequencies, jnp.float32)[None]
    code = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(code, ((0, 0), (0, dim % 2)))


def position_table(grid: tuple[int, ...], dim: int) -> np.ndarray:
    """Encode every position as [sin | cos], in row-major order.

    The channels are shared out among the axes of the grid, last axis first: of an image, columns
    take the first half and rows the second.

    Args:
      grid: (N,), (rows, columns) or (times, rows, columns).
      dim: number of channels, a multiple of twice the number of axes.

    Returns:
      (prod(grid), dim) float64.
    """
    part = dim // len(grid)
    rates = 1 / MAX_PERIOD ** (np.arange(part // 2) / (part / 2))
    codes = []
    for coordinate in reversed(np.meshgrid(*map(np.arange, grid), indexing="ij")):
        angles = coordinate.reshape(-1, 1) * rates
        codes += [np.sin(angles), np.cos(angles)]
    return np.concatenate(codes, axis=-1)


class ConditionEmbedding(nn.Module):
    """Timestep MLP plus the row of a class table; its last row stands for no class.

    Attributes:
      dim: width.
      num_classes: 0 for none.
      features: sines and cosines of the timestep.
    """

    dim: int
    num_classes: int
    features: int = 256

    @nn.compact
    def __call__(self, timestep: jax.Array, condition: Condition) -> jax.Array:
        """(B,) int32, and a condition with labels if there are classes -> (B, dim) float32."""
        normal = nn.initializers.normal(0.02)
        code = timestep_code(timestep, self.features)
        first, second = dense_inits(normal, "code", "mlp"), dense_inits(normal, "mlp", "embed")
        hidden = nn.Dense(self.dim, **first, name="time_in")(constrain(code))
        hidden = nn.silu(constrain(hidden))
        embedding = constrain(nn.Dense(self.dim, **second, name="time_out")(hidden))
        if self.num_classes:
            init = declare(normal, "classes", "embed")
            table = self.param("labels", init, (self.num_classes + 1, self.dim))
            labels = condition.need("labels")
            row = jnp.where(labels < 0, self.num_classes, labels)
            embedding = embedding + constrain(gathered(table)[row])
        return embedding
