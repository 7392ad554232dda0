"""One DiffuSSM block (arXiv 2311.18257, section 4): hourglass, bidirectional SSM, gated fusion.

On normalised, modulated input I, for position j of the short sequence and k of its M places:

    U_l  = act(W_up_k act(W0 I_j))                    l = j M + k       (1)
    Y    = BiSSM(U)                                                     (2)
    I'_j[k] = act(W_down_k Y_l)                       2D / M channels   (3)
    O_j  = W3(act(W2 I'_j) * act(W1 I_j))                               (4)

The numbers are ours. Only the SSM works at the full length L = J M, and mixes positions; all dense
layers but W_up and W_down see the short sequence.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.errors import UserError
from diffusion_jax.fields import check, choice, count, ruled
from diffusion_jax.normalisation import normalise
from diffusion_jax.parallel.axes import declare, dense_inits
from diffusion_jax.parallel.sharding import constrain
from diffussm_jax.convolution import FORMS
from diffussm_jax.s4d import STARTS, even
from diffussm_jax.ssm import BidirectionalSSM

READINGS = ("flops", "parameters")
glorot, zeros = nn.initializers.glorot_uniform(), nn.initializers.zeros


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

    expansion: int = count(2)
    state_size: int = ruled(even, 64)
    start: str = choice(STARTS, "lin")
    form: str = choice(FORMS, "auto")
    reading: str = choice(READINGS, "flops")
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check(self)
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
        i_BxJxD = normalise(x).astype(self.dtype)
        gate = None
        if condition is not None:
            shift, scale, gate = modulation(condition.astype(self.dtype), 3, dim, self.dtype)
            i_BxJxD = i_BxJxD * (1 + scale) + shift
        # The widths in the middle are split over 'tensor'; the sums over them meet in W_down, W3.
        fused = {"flops": 2 * dim, "parameters": dim}[self.reading]
        u = self._up(self._dense("w0", dim, ("embed", "inner"), i_BxJxD))  # (1)
        y_BxLx2xD = BidirectionalSSM(self.state_size, self.start, self.form, name="ssm")(u)  # (2)
        hourglass = self._down(y_BxLx2xD)  # (3)
        gated = self._dense("w2", fused, ("hourglass", "fused"), hourglass)
        gated = gated * self._dense("w1", fused, ("embed", "fused"), i_BxJxD)
        w3 = nn.Dense(dim, **dense_inits(glorot, "fused", "embed"), dtype=self.dtype, name="w3")
        out = w3(constrain(gated, "tensor"))  # (4)
        return x + constrain(out if gate is None else gate * out, None).astype(x.dtype)

    def _up(self, x: jax.Array) -> jax.Array:
        """(B, J, D) -> (B, J M, D) for both directions, or (B, J M, 2, D), D for each."""
        dim = x.shape[-1]
        axes, shape = {
            "flops": (("channels",), (dim,)),
            "parameters": (("directions", "channels"), (2, dim)),
        }[self.reading]
        init = declare(
            glorot_of_each((1,), tuple(range(2, 2 + len(shape)))), "expansion", "inner", *axes
        )
        kernel = self.param("up_kernel", init, (self.expansion, dim, *shape))
        bias_init = declare(zeros, "expansion", *axes, adapted=False)
        bias = self.param("up_bias", bias_init, (self.expansion, *shape))
        up = jnp.einsum("bjd,kd...->bjk...", x, kernel.astype(self.dtype))
        up = nn.gelu(up + bias.astype(self.dtype)[None, None])
        return constrain(rearrange(up, "b j k ... -> b (j k) ..."), "tensor")

    def _down(self, y: jax.Array) -> jax.Array:
        """(B, J M, 2, D) -> (B, J, 2D): position k of M fills channels k of M parts."""
        dim, expansion = y.shape[-1], self.expansion
        if 2 * dim % expansion:
            raise UserError(f"expansion is {expansion}: it must divide 2 D = {2 * dim}")
        part = 2 * dim // expansion
        axes = ("expansion", "directions", "channels", "hourglass")
        init = declare(glorot_of_each((1, 2), (3,)), *axes)
        kernel = self.param("down_kernel", init, (expansion, 2, dim, part)).astype(self.dtype)
        bias_init = declare(zeros, "expansion", "hourglass", adapted=False)
        bias = self.param("down_bias", bias_init, (expansion, part))
        y = rearrange(y, "b (j k) way d -> b j k way d", k=expansion)
        # Not one einsum over k: XLA's CPU backend would transpose the kernels at every call.
        parts = [jnp.einsum("bjcd,cde->bje", y[:, :, k], kernel[k]) for k in range(expansion)]
        down = constrain(jnp.stack(parts, axis=2))
        down = nn.gelu(down + bias.astype(self.dtype)[None, None])
        return rearrange(down, "b j k e -> b j (k e)")

    def _dense(self, name: str, width: int, axes: tuple[str, str], x: jax.Array) -> jax.Array:
        dense = nn.Dense(width, **dense_inits(glorot, *axes), dtype=self.dtype, name=name)
        return nn.gelu(dense(x))  # of tanh, as DiT's; the paper does not say


def modulation(condition: jax.Array, parts: int, dim: int, dtype: jnp.dtype) -> list[jax.Array]:
    """adaLN-Zero (arXiv 2212.09748): Dense(SiLU(condition)), zero at first.

    Args:
      condition: (B, E).

    Returns:
      `parts` arrays (B, 1, dim).
    """
    inits = dense_inits(zeros, "embed", "modulation")
    dense = nn.Dense(parts * dim, **inits, dtype=dtype, name="modulation")
    return jnp.split(dense(nn.silu(condition))[:, None], parts, axis=-1)
