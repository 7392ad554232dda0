"""A convolution between neighbouring tokens of the interface, an option of the official code."""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.parallel.sharding import constrain, gathered
from rin_jax.layers import Dropout, Layer, Norm, glorot


def groups(width: int) -> int:
    """Number of groups in which `InterfaceConvolution` normalises `width` channels."""
    return min(width // 4, 32)


class InterfaceConvolution(Layer):
    """x += branch(x): depthwise convolution, GroupNorm, SiLU, dropout, 1 x 1 convolution.

    The first `count` tokens are laid out in a square, row by row, whatever the shape of the data;
    those after them stay as they are. A new network's branch is all but zero.

    Attributes:
      size: side of the depthwise kernel.
      count: number of tokens to convolve, a square number.
      dropout: rate of the hidden units, when `train`; then the rng 'dropout' is needed.
    """

    size: int
    count: int
    dropout: float
    train: bool

    @nn.compact
    def __call__(self, interface: jax.Array) -> jax.Array:
        """(B, N, E) -> (B, N, E)."""
        width, side = interface.shape[-1], math.isqrt(self.count)
        image = rearrange(interface[:, : self.count], "b (h w) e -> b h w e", h=side)
        image = Norm(groups=groups(width), **self.dtypes, name="norm")(self._depthwise(image))
        image = Dropout(self.dropout, self.train)(nn.silu(image))
        nearly_zero = nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform")
        shape = ("kernel", 1), ("kernel", 1), ("embed", width), ("embed", width)
        kernel, bias = self.affine("pointwise", nearly_zero, *shape)
        image = constrain(jnp.einsum("bhwd,de->bhwe", image, kernel[0, 0]) + _per_channel(bias))
        return interface.at[:, : self.count].add(rearrange(image, "b h w e -> b (h w) e"))

    def _depthwise(self, image: jax.Array) -> jax.Array:
        """(B, H, W, E) -> (B, H, W, E), with zeros around the image."""
        width = image.shape[-1]
        # In Keras' order, whose fans its initialisation needs.
        shape = ("kernel", self.size), ("kernel", self.size), ("embed", width), ("kernel", 1)
        kernel, bias = self.affine("depthwise", glorot, *shape, bias=slice(2, 3))
        image = jax.lax.conv_general_dilated(
            image,
            # Else each device convolves its own channels of the whole batch.
            gathered(rearrange(kernel, "h w e one -> h w one e")),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=width,
        )
        return constrain(constrain(image) + _per_channel(bias))


def _per_channel(bias_E: jax.Array) -> jax.Array:
    return bias_E[None, None, None]
