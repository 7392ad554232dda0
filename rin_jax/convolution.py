"""A convolution between neighbouring tokens of the interface, an option of the official code."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.parallel.sharding import constrain, gathered
from rin_jax.attention import Dropout, Dtype, glorot


def groups(width: int) -> int:
    """Number of groups in which `InterfaceConvolution` normalises `width` channels."""
    return min(width // 4, 32)


class GroupNorm(nn.Module):
    """GroupNorm, epsilon 1e-5, whose statistics are taken in `param_dtype`.

    Flax's does not compute in float64 under strict promotion of dtypes.

    Attributes:
      count: number of groups, a divisor of the channels.
      dtype: of the output; parameters are `param_dtype`, float32 or wider.
    """

    count: int
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, E) -> (B, H, W, E)."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        grouped = x.astype(self.param_dtype).reshape(*x.shape[:3], self.count, -1)
        grouped = grouped - grouped.mean((1, 2, 4), keepdims=True)
        variance = jnp.square(grouped).mean((1, 2, 4), keepdims=True)
        normed = (grouped * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return (normed * scale[None, None, None] + bias[None, None, None]).astype(self.dtype)


class InterfaceConvolution(nn.Module):
    """x += branch(x): depthwise convolution, GroupNorm, SiLU, dropout, 1 x 1 convolution.

    The first `count` tokens are laid out in a square, row by row, whatever the shape of the data;
    those after them stay as they are. A new network's branch is all but zero.

    Attributes:
      size: side of the depthwise kernel.
      count: number of tokens to convolve, a square number.
      dropout: rate of the hidden units, when `train`; then the rng 'dropout' is needed.
      dtype, param_dtype: of the convolutions and of the parameters.
    """

    size: int
    count: int
    dropout: float
    train: bool
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, interface: jax.Array) -> jax.Array:
        """(B, N, E) -> (B, N, E)."""
        width, side = interface.shape[-1], math.isqrt(self.count)
        image = interface[:, : self.count].reshape(-1, side, side, width)
        image = GroupNorm(groups(width), self.dtype, self.param_dtype, name="norm")(
            self._depthwise(image)
        )
        image = Dropout(self.dropout, self.train)(nn.silu(image))
        start = nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform")
        kernel, bias = self._affine("pointwise", start, (1, 1, width, width))
        image = constrain(jnp.einsum("bhwd,de->bhwe", image, kernel[0, 0]) + bias)
        return interface.at[:, : self.count].add(image.reshape(-1, self.count, width))

    def _depthwise(self, image: jax.Array) -> jax.Array:
        """(B, H, W, E) -> (B, H, W, E), with zeros around the image."""
        width = image.shape[-1]
        # In Keras' order, whose fans its start needs.
        kernel, bias = self._affine("depthwise", glorot, (self.size, self.size, width, 1))
        image = jax.lax.conv_general_dilated(
            image,
            gathered(kernel.swapaxes(2, 3)),  # else each device convolves its channels of the batch
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=width,
        )
        return constrain(constrain(image) + bias)

    def _affine(self, name: str, start, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Kernel, and bias (1, 1, 1, E)."""
        kernel = self.param(f"{name}_kernel", start, shape, self.param_dtype)
        bias = self.param(f"{name}_bias", nn.initializers.zeros, shape[2:3], self.param_dtype)
        return kernel.astype(self.dtype), bias.astype(self.dtype)[None, None, None]
