"""The RGB stream of the Inflated 3D Inception of Kinetics-400 (I3D, arXiv 1705.07750).

FVD is defined by its logits. Modules have the names of github.com/piergiaj/pytorch-i3d; padding is
TensorFlow's SAME throughout, as in the network that FVD's reference runs.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.errors import UserError, check_at_least

# Output channels of the units b0, b1a, b1b, b2a, b2b and b3b of every Inception block.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLED_BEFORE = {"Mixed_4b": (3, 3, 3), "Mixed_5b": (2, 2, 2)}
CLASSES = 400
FEWEST_FRAMES = 9  # strides leave 2 of them, a window of the head


def convolution(x: jax.Array, channels: int, side: int, name: str, stride: int = 1) -> jax.Array:
    """Convolve (B, T, H, W, C) -> (..., channels) with a cubic kernel, SAME, in full float32.

    TF32 or bfloat16 would change the features. Call it within a compact method.
    """
    precision = jax.lax.Precision.HIGHEST
    return nn.Conv(channels, (side,) * 3, stride, precision=precision, name=name)(x)


def unit(x: jax.Array, channels: int, side: int, name: str, stride: int = 1) -> jax.Array:
    """Apply `convolution`, batch norm folded into its kernel and bias, and ReLU."""
    return nn.relu(convolution(x, channels, side, name, stride))


def max_pool(x: jax.Array, window: tuple[int, int, int], strides: tuple[int, ...]) -> jax.Array:
    """Take the maximum of (B, T, H, W, C) over windows, SAME; padding is never the maximum."""
    return nn.max_pool(x, window, strides, padding="SAME")


class Mixed(nn.Module):
    """Inception block (B, T, H, W, C) -> (B, T, H, W, sum of the branches' channels).

    Attributes:
      channels: output channels of its units; see `MIXED`.
    """

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b0, b1a, b1b, b2a, b2b, b3b = self.channels
        branches = (
            unit(x, b0, 1, "b0"),
            unit(unit(x, b1a, 1, "b1a"), b1b, 3, "b1b"),
            unit(unit(x, b2a, 1, "b2a"), b2b, 3, "b2b"),
            unit(max_pool(x, (3, 3, 3), (1, 1, 1)), b3b, 1, "b3b"),
        )
        return jnp.concatenate(branches, axis=-1)


class I3D(nn.Module):
    """Network from videos (B, T, 224, 224, 3) in [-1, 1], T >= 9, to logits (B, 400) float32.

    It has 12,689,984 parameters, norms folded. The logits are averaged over time; they are FVD's
    features, 'RGB/inception_i3d/Mean:0' of the reference (arXiv 1812.01717). The head pools over
    the whole map, which is the published 7 x 7 for sides of 193 to 224; with other sides the
    network runs, but its features mean nothing.

    Raises:
      UserError: for videos that are too short, in integers, or not RGB.
    """

    @nn.compact
    def __call__(self, videos: jax.Array) -> jax.Array:
        if not jnp.issubdtype(videos.dtype, jnp.floating):
            raise UserError(f"videos are {videos.dtype}: give floats in [-1, 1]")
        if videos.ndim != 5 or videos.shape[-1] != 3:
            raise UserError(f"videos have shape {videos.shape}: give (B, T, 224, 224, 3)")
        check_at_least("number of frames", videos.shape[1], FEWEST_FRAMES)

        x = unit(videos, 64, 7, "Conv3d_1a_7x7", stride=2)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = unit(x, 64, 1, "Conv3d_2b_1x1")
        x = unit(x, 192, 3, "Conv3d_2c_3x3")
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for name, channels in MIXED.items():
            if name in POOLED_BEFORE:
                x = max_pool(x, POOLED_BEFORE[name], (2, 2, 2))
            x = Mixed(channels, name=name)(x)
        # The published head averages 2 x 7 x 7 windows with stride 1: all of space, pairs of times.
        x = x.mean(axis=(2, 3), keepdims=True)
        x = (x[:, :-1] + x[:, 1:]) / 2
        return convolution(x, CLASSES, 1, "logits").mean(axis=(1, 2, 3))
