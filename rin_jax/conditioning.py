"""What a pass is told: the noise level, and what the previous pass left."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rin_jax.attention import Dense, Dtype, FeedForward, LayerNorm
from rin_jax.positions import scalar_code


class TimeEmbedding(nn.Module):
    """gamma -> sines and cosines, standardised per row -> Dense, SiLU, Dense.

    Features of a condition, if given, join the input of the second Dense.

    Attributes:
      dim: output width d'; the code has d' / 4 features.
      scaling: multiplies gamma before the code.
    """

    dim: int
    scaling: float
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, gamma: jax.Array, features: jax.Array | None = None) -> jax.Array:
        """(B,) float32 or wider, (B, F) of `dtype` or None -> (B, d')."""
        code = scalar_code(gamma * self.scaling, self.dim // 4)
        code = (code - code.mean(-1, keepdims=True)) / code.std(-1, keepdims=True)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        hidden = nn.silu(Dense(self.dim, **dtypes, name="in")(code.astype(self.dtype)))
        if features is not None:
            hidden = jnp.concatenate([hidden, features], axis=-1)
        return Dense(self.dim, **dtypes, name="out")(hidden)


class SelfConditioning(nn.Module):
    """LN0(previous + MLP(LN(previous))): adds nothing until LN0's scale and bias have left zero.

    Latent self-conditioning (arXiv 2212.11972).

    Attributes:
      mlp_ratio: hidden width of the MLP over its input's.
    """

    mlp_ratio: int
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, previous: jax.Array) -> jax.Array:
        """(B, L, D) -> (B, L, D)."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        previous = previous.astype(self.dtype)
        previous = previous + FeedForward(self.mlp_ratio, **dtypes, name="mlp")(previous)
        return LayerNorm(scale_init=nn.initializers.zeros, **dtypes, name="norm")(previous)
