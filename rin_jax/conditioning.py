"""What a pass is told: the noise level, and what the previous pass left."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rin_jax.attention import FeedForward
from rin_jax.layers import Layer, Norm, zeros
from rin_jax.positions import scalar_code


class TimeEmbedding(Layer):
    """gamma -> sines and cosines, standardised per row -> Dense, SiLU, Dense.

    The network is told the signal power gamma(t), not t: it then serves any schedule. Features of
    a condition, if given, join the input of the second Dense.

    Attributes:
      dim: output width d'; the code has d' / 4 features.
      scaling: multiplies gamma before the code.
    """

    dim: int
    scaling: float

    @nn.compact
    def __call__(self, gamma: jax.Array, features: jax.Array | None = None) -> jax.Array:
        """(B,) float32 or wider, (B, F) of `dtype` or None -> (B, d')."""
        code = scalar_code(gamma * self.scaling, self.dim // 4)
        # The population's deviation and no epsilon, as in the official code.
        code = (code - code.mean(-1, keepdims=True)) / code.std(-1, keepdims=True)
        hidden = nn.silu(self.dense("in", self.dim, ("code", "mlp"), code.astype(self.dtype)))
        if features is not None:
            hidden = jnp.concatenate([hidden, features], axis=-1)
        return self.dense("out", self.dim, ("mlp", "embed"), hidden)


class SelfConditioning(Layer):
    """LN0(previous + MLP(LN(previous))), latent self-conditioning (arXiv 2212.11972).

    LN0's scale and bias start at zero: a new network ignores what it carries, and learns to use it.
    A trained one does not: its bias is added even where `previous` is zeros.

    Attributes:
      mlp_ratio: hidden width of the MLP over its input's.
    """

    mlp_ratio: int

    @nn.compact
    def __call__(self, previous: jax.Array) -> jax.Array:
        """(B, L, D) -> (B, L, D)."""
        previous = previous.astype(self.dtype)
        previous = previous + FeedForward(self.mlp_ratio, **self.dtypes, name="mlp")(previous)
        return Norm(scale_init=zeros, **self.dtypes, name="norm")(previous)
