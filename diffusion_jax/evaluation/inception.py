"""The Inception-v3 (arXiv 1512.00567) of 2015 by which FID is defined, batch norms folded in.

It is TensorFlow's graph of 2015-12-05, not torchvision's network, and FID depends on it: average
pools leave padding out of the mean, the pool branch of the last block takes the maximum, and there
are 1008 classes. Layers have the names of pytorch-fid, which reproduces it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

SIDE = 299  # pixels of the images that it takes
CLASSES = 1008

# By default TPUs and some GPUs round the inputs of products to fewer bits, which gives another FID.
EXACT = jax.lax.Precision.HIGHEST


class Features(NamedTuple):
    """Features by which images are compared, float32.

    Attributes:
      pool: (B, 2048) averages over positions of the last block, for FID, KID, precision and recall.
      spatial: (B, 2023) first 7 channels of Mixed_6d, 17 x 17 x 7 in that order, for sFID
        (arXiv 2103.03841), which sees where things are: the pool features are averaged over
        positions. 7 channels, so that there are about as many features.
      logits: (B, 1008), for the Inception Score; without the layer's bias, as in guided-diffusion's
        evaluator. None where the weights have no such layer.
    """

    pool: jax.Array
    spatial: jax.Array
    logits: jax.Array | None


class Inception(nn.Module):
    """Network from images (B, 299, 299, 3) float32, as `RESIZES` makes them, to `Features`."""

    has_logits: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> Features:
        x = conv(x, "Conv2d_1a_3x3", 32, 3, 3, 2, "VALID")
        x = conv(x, "Conv2d_2a_3x3", 32, 3, 3, padding="VALID")
        x = conv(x, "Conv2d_2b_3x3", 64, 3, 3)
        x = max_pool_half(x)
        x = conv(x, "Conv2d_3b_1x1", 80)
        x = conv(x, "Conv2d_4a_3x3", 192, 3, 3, padding="VALID")
        x = max_pool_half(x)
        x = Mixed5(32, name="Mixed_5b")(x)
        x = Mixed5(64, name="Mixed_5c")(x)
        x = Mixed5(64, name="Mixed_5d")(x)
        x = Mixed6a(name="Mixed_6a")(x)
        x = Mixed6(128, name="Mixed_6b")(x)
        x = Mixed6(160, name="Mixed_6c")(x)
        x = Mixed6(160, name="Mixed_6d")(x)
        spatial = rearrange(x[..., :7], "b h w c -> b (h w c)")  # of the 1x1 branch, the first
        x = Mixed6(192, name="Mixed_6e")(x)
        x = Mixed7a(name="Mixed_7a")(x)
        x = Mixed7(average_pool, name="Mixed_7b")(x)
        x = Mixed7(max_pool, name="Mixed_7c")(x)
        pool = x.mean((1, 2))
        logits = None
        if self.has_logits:
            logits = nn.Dense(CLASSES, use_bias=False, precision=EXACT, name="fc")(pool)
        return Features(pool, spatial, logits)


class Mixed5(nn.Module):
    """Block (B, 35, 35, C) -> (B, 35, 35, 224 + pool_channels)."""

    pool_channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return concatenate(
            conv(x, "branch1x1", 64),
            chain(x, "branch5x5", (48,), (64, 5, 5)),
            chain(x, "branch3x3dbl", (64,), (96, 3, 3), (96, 3, 3)),
            conv(average_pool(x), "branch_pool", self.pool_channels),
        )


class Mixed6a(nn.Module):
    """Block (B, 35, 35, C) -> (B, 17, 17, 480 + C), which halves the resolution."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return concatenate(
            conv(x, "branch3x3", 384, 3, 3, 2, "VALID"),
            chain(x, "branch3x3dbl", (64,), (96, 3, 3), (96, 3, 3, 2, "VALID")),
            max_pool_half(x),
        )


class Mixed6(nn.Module):
    """Block (B, 17, 17, C) -> (B, 17, 17, 768), whose 7x7 kernels are factored into 1x7 and 7x1.

    Attributes:
      channels: channels between the factors.
    """

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.channels
        return concatenate(
            conv(x, "branch1x1", 192),
            chain(x, "branch7x7", (c,), (c, 1, 7), (192, 7, 1)),
            chain(x, "branch7x7dbl", (c,), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
            conv(average_pool(x), "branch_pool", 192),
        )


class Mixed7a(nn.Module):
    """Block (B, 17, 17, C) -> (B, 8, 8, 512 + C), which halves the resolution."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        halving = (3, 3, 2, "VALID")
        return concatenate(
            chain(x, "branch3x3", (192,), (320, *halving)),
            chain(x, "branch7x7x3", (192,), (192, 1, 7), (192, 7, 1), (192, *halving)),
            max_pool_half(x),
        )


class Mixed7(nn.Module):
    """Block (B, 8, 8, C) -> (B, 8, 8, 2048).

    Attributes:
      pool: pool of the last branch: the mean in the first of these blocks, the maximum in the last.
    """

    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = conv(x, "branch3x3_1", 384)
        double = chain(x, "branch3x3dbl", (448,), (384, 3, 3))
        return concatenate(
            conv(x, "branch1x1", 320),
            conv(single, "branch3x3_2a", 384, 1, 3),
            conv(single, "branch3x3_2b", 384, 3, 1),
            conv(double, "branch3x3dbl_3a", 384, 1, 3),
            conv(double, "branch3x3dbl_3b", 384, 3, 1),
            conv(self.pool(x), "branch_pool", 192),
        )


def conv(
    x: jax.Array,
    name: str,
    channels: int,
    rows: int = 1,
    columns: int = 1,
    strides: int = 1,
    padding: str = "SAME",
) -> jax.Array:
    """Convolve (B, H, W, C) -> (..., channels), batch norm folded in, and apply ReLU.

    Call it within a compact method.
    """
    return nn.relu(
        nn.Conv(channels, (rows, columns), strides, padding, precision=EXACT, name=name)(x)
    )


def chain(x: jax.Array, name: str, *convs: tuple) -> jax.Array:
    """Apply one `conv` after another, with the names `name`_1, `name`_2, ...

    Args:
      convs: arguments of each, from its channels on.
    """
    for i, arguments in enumerate(convs, start=1):
        x = conv(x, f"{name}_{i}", *arguments)
    return x


def concatenate(*branches: jax.Array) -> jax.Array:
    """Concatenate branches (B, H, W, C) over their channels."""
    return jnp.concatenate(branches, axis=-1)


def average_pool(x: jax.Array) -> jax.Array:
    """Average (B, H, W, C) over 3 x 3 at every position, at the edge over what is inside."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def max_pool(x: jax.Array) -> jax.Array:
    """Take the maximum of (B, H, W, C) over 3 x 3 at every position."""
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def max_pool_half(x: jax.Array) -> jax.Array:
    """Take the maximum of (B, H, W, C) over 3 x 3 at every other position."""
    return nn.max_pool(x, (3, 3), (2, 2))
