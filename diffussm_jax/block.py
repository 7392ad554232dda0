"""One DiffuSSM block (arXiv 2311.18257, section 4): hourglass, bidirectional SSM, gated fusion.

U_l  = act(W_up_k act(W0 I_j))                    l = j M + k
Y    = BiSSM(U)
I'_j[k] = act(W_down_k Y_l)                       2D / M channels each
O_j  = W3(act(W2 I'_j) * act(W1 I_j))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.errors import UserError
from diffussm_jax.ssm import BidirectionalSSM

glorot = nn.initializers.glorot_uniform()
glorot_of_each = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", batch_axis=0)


class DiffuSSMBlock(nn.Module):
    """(B, J, D) -> (B, J, D): x + gate * fusion(modulated LayerNorm(x)); plugs in anywhere.

    The SSM sees J M positions. Weight shapes are those that give the paper's FLOPs and printed
    shapes: W0 D -> D, W_up D -> D, W_down 2D -> 2D/M, W1 D -> 2D, W2 2D -> 2D, W3 2D -> D.

    Attributes:
      expansion: M, which must divide 2D.
      state_size, start, form: of `BidirectionalSSM`.
      dtype: of the matmuls; parameters and the SSM are float32.
    """

    expansion: int = 2
    state_size: int = 64
    start: str = "lin"
    form: str = "fft"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """Applies the block.

        Args:
          x: (B, J, D).
          condition: (B, E) embedding for adaLN-Zero: with it a new block is the identity. None
            leaves scale, shift and gate out.

        Raises:
          UserError: if `expansion` does not divide 2D.
        """
        batch, count, dim = x.shape
        if 2 * dim % self.expansion:
            raise UserError(f"expansion is {self.expansion}: it must divide 2 D = {2 * dim}")
        hidden = _normalise(x).astype(self.dtype)
        gate = None
        if condition is not None:
            shift, scale, gate = self._modulation(condition.astype(self.dtype), dim)
            hidden = hidden * (1 + scale) + shift

        up = jnp.einsum("bjd,kde->bjke", self._dense("w0", dim, hidden), self._each("up", dim, dim))
        up = nn.gelu(up + self._bias("up", dim))
        y = BidirectionalSSM(self.state_size, self.start, self.form, name="ssm")(
            up.reshape(batch, count * self.expansion, dim)
        )
        y = y.reshape(batch, count, self.expansion, 2 * dim)
        part = 2 * dim // self.expansion
        down = jnp.einsum("bjkd,kde->bjke", y, self._each("down", 2 * dim, part))
        down = nn.gelu(down + self._bias("down", part)).reshape(batch, count, 2 * dim)
        fused = self._dense("w2", 2 * dim, down) * self._dense("w1", 2 * dim, hidden)
        out = nn.Dense(dim, kernel_init=glorot, dtype=self.dtype, name="w3")(fused)
        return x + (out if gate is None else gate * out).astype(x.dtype)

    def _dense(self, name: str, width: int, x: jax.Array) -> jax.Array:
        return nn.gelu(nn.Dense(width, kernel_init=glorot, dtype=self.dtype, name=name)(x))

    def _each(self, name: str, width: int, out: int) -> jax.Array:
        """A matrix for each of the M positions: (M, width, out)."""
        kernel = self.param(f"{name}_kernel", glorot_of_each, (self.expansion, width, out))
        return kernel.astype(self.dtype)

    def _bias(self, name: str, width: int) -> jax.Array:
        bias = self.param(f"{name}_bias", nn.initializers.zeros, (self.expansion, width))
        return bias.astype(self.dtype)[None, None]

    def _modulation(self, condition: jax.Array, dim: int) -> list[jax.Array]:
        """adaLN-Zero: shift, scale and gate, (B, 1, D) each, zero at first."""
        zeros = nn.initializers.zeros
        modulation = nn.Dense(3 * dim, kernel_init=zeros, dtype=self.dtype, name="modulation")
        return jnp.split(modulation(nn.silu(condition))[:, None], 3, axis=-1)


def _normalise(x: jax.Array) -> jax.Array:
    """LayerNorm without scale or shift, epsilon 1e-6, in float32."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
