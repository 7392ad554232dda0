"""One DiffuSSM block (arXiv 2311.18257, section 4): hourglass, bidirectional SSM, gated fusion.

On normalised, modulated input I:

    U_l  = act(W_up_k act(W0 I_j))                    l = j M + k
    Y    = BiSSM(U)
    I'_j[k] = act(W_down_k Y_l)                       2D / M channels each
    O_j  = W3(act(W2 I'_j) * act(W1 I_j))
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.errors import UserError, check_at_least, check_choice
from diffusion_jax.parallel.sharding import constrain
from diffussm_jax.ssm import BidirectionalSSM

READINGS = ("flops", "parameters")
glorot = nn.initializers.glorot_uniform()


def glorot_of_each(
    inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> nn.initializers.Initializer:
    """Xavier-uniform for each matrix of a stack (M, ...), of these input and output axes."""
    return nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", inputs, outputs, (0,))


class DiffuSSMBlock(nn.Module):
    """(B, J, D) -> (B, J, D): x + gate * fusion(modulated LayerNorm(x)); plugs in anywhere.

    The SSM sees J M positions. The paper's weight shapes contradict each other. By what they agree
    with there are two readings:

        flops         W0 D->D, W_up D->D,  W1 D->2D, W2 2D->2D, W3 2D->D; (13 + M) D^2 in all
        parameters    W0 D->D, W_up D->2D, W1 D->D,  W2 2D->D,  W3 D->D;  (9 + 2M) D^2

    W_down is 2D -> 2D/M. 'flops' gives the paper's FLOPs formula and the printed shape of U, one
    input of D channels for both directions; 'parameters' its parameter formula, with D channels of
    input for each direction.

    Attributes:
      expansion: M, which must divide 2D.
      state_size, start, form: of `BidirectionalSSM`.
      reading: of the weight shapes: 'flops' or 'parameters'.
      dtype: of the matmuls; parameters and the SSM are float32.

    Raises:
      UserError: on construction, for a name or a number that cannot work.
    """

    expansion: int = 2
    state_size: int = 64
    start: str = "lin"
    form: str = "auto"
    reading: str = "flops"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check_choice("reading", self.reading, READINGS)
        check_at_least("expansion", self.expansion, 1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """Applies the block.

        Args:
          x: (B, J, D).
          condition: (B, E) embedding for adaLN-Zero: with it a new block is the identity. None
            leaves scale, shift and gate out.

        Returns:
          (B, J, D), of the dtype of `x`.

        Raises:
          UserError: if `expansion` does not divide 2D.
        """
        x = constrain(x, None)
        dim = x.shape[-1]
        hidden = normalise(x).astype(self.dtype)
        gate = None
        if condition is not None:
            condition = condition.astype(self.dtype)
            shift, scale, gate = modulation(condition, 3, dim, self.dtype)
            hidden = hidden * (1 + scale) + shift
        # The widths in the middle are split over 'tensor'; the sums over them meet in W_down, W3.
        fused_width = {"flops": 2 * dim, "parameters": dim}[self.reading]
        u = self._up(self._dense("w0", dim, hidden))
        y = self._down(BidirectionalSSM(self.state_size, self.start, self.form, name="ssm")(u))
        fused = self._dense("w2", fused_width, y) * self._dense("w1", fused_width, hidden)
        out = nn.Dense(dim, kernel_init=glorot, dtype=self.dtype, name="w3")(
            constrain(fused, "tensor")
        )
        return x + constrain(out if gate is None else gate * out, None).astype(x.dtype)

    def _up(self, x: jax.Array) -> jax.Array:
        """(B, J, D) -> (B, J M, D) for both directions, or (B, J M, 2, D), D for each."""
        dim = x.shape[-1]
        shape = {"flops": (dim,), "parameters": (2, dim)}[self.reading]
        init = glorot_of_each((1,), tuple(range(2, 2 + len(shape))))
        kernel = self.param("up_kernel", init, (self.expansion, dim, *shape))
        bias = self.param("up_bias", nn.initializers.zeros, (self.expansion, *shape))
        up = jnp.einsum("bjd,kd...->bjk...", x, kernel.astype(self.dtype))
        up = nn.gelu(up + bias.astype(self.dtype)[None, None])
        return constrain(up.reshape(x.shape[0], -1, *shape), "tensor")

    def _down(self, y: jax.Array) -> jax.Array:
        """(B, J M, 2, D) -> (B, J, 2D): position k of M fills channels k of M parts."""
        batch, _, _, dim = y.shape
        if 2 * dim % self.expansion:
            raise UserError(f"expansion is {self.expansion}: it must divide 2 D = {2 * dim}")
        part = 2 * dim // self.expansion
        init = glorot_of_each((1, 2), (3,))
        kernel = self.param("down_kernel", init, (self.expansion, 2, dim, part))
        bias = self.param("down_bias", nn.initializers.zeros, (self.expansion, part))
        y = y.reshape(batch, -1, self.expansion, 2, dim)
        kernel = kernel.astype(self.dtype)
        # Not one einsum over k: XLA's CPU backend would transpose the kernels at every call.
        parts = [jnp.einsum("bjcd,cde->bje", y[:, :, k], kernel[k]) for k in range(len(kernel))]
        down = constrain(jnp.stack(parts, axis=2))
        down = nn.gelu(down + bias.astype(self.dtype)[None, None])
        return down.reshape(batch, -1, 2 * dim)

    def _dense(self, name: str, width: int, x: jax.Array) -> jax.Array:
        return nn.gelu(nn.Dense(width, kernel_init=glorot, dtype=self.dtype, name=name)(x))


def modulation(condition: jax.Array, parts: int, dim: int, dtype: jnp.dtype) -> list[jax.Array]:
    """adaLN-Zero (arXiv 2212.09748): Dense(SiLU(condition)), zero at first.

    Args:
      condition: (B, E).

    Returns:
      `parts` arrays (B, 1, dim).
    """
    zeros = nn.initializers.zeros
    dense = nn.Dense(parts * dim, kernel_init=zeros, dtype=dtype, name="modulation")
    return jnp.split(dense(nn.silu(condition))[:, None], parts, axis=-1)


def normalise(x: jax.Array) -> jax.Array:
    """LayerNorm of (..., D) without scale or shift, epsilon 1e-6, in float32 or wider."""
    x = x.astype(jnp.float32 if x.dtype.itemsize < 4 else x.dtype)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
