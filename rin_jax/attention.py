"""The two residual branches of a transformer layer, as the reference writes them.

Names of arrays end in their axes: B examples, L queries, S source tokens, D and E widths, H heads,
K channels of a head.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.parallel.sharding import constrain
from rin_jax.layers import Dropout, Dtype, Layer, Norm, gelu, glorot

FORMS = ("einsum", "xla", "cudnn")


def check_form(form: str, dtype: Dtype, dropout: float = 0.0) -> None:
    """Check a form of attention.

    Raises:
      UserError: if it is unknown, does not compute in `dtype`, or cannot drop weights and is to.
    """
    check_choice("attention", form, FORMS)
    if dropout and form != "einsum":
        raise UserError(
            f"attention_dropout is {dropout} and attention {form!r}: set attention to 'einsum', "
            "which alone can drop weights"
        )
    if form == "cudnn" and dtype != jnp.bfloat16:
        name = jnp.dtype(dtype).name
        raise UserError(f"attention is 'cudnn' and dtype {name}: cuDNN's wants bfloat16")


class MultiHeadAttention(Layer):
    """Multi-head attention with biases, softmax in float32 or wider.

        q = W_q query,  k = W_k source,  v = W_v source
        out = W_o sum_s softmax_s(q . k_s / sqrt(K)) v_s

    The output is as wide as the query's input. Heads need not divide `width`: a head gets
    `width // heads` channels, as in the reference.

    Attributes:
      heads: number of heads.
      width: total key (and value) width before rounding down to a multiple of `heads`.
      form: 'einsum', or an implementation of `jax.nn.dot_product_attention`: 'xla', 'cudnn'.
      dropout: rate on the attention weights, when `train`; of the form 'einsum' alone.

    Raises:
      UserError: on construction, for more heads than channels, or what the form does not do.
    """

    heads: int
    width: int
    form: str = "einsum"
    dropout: float = 0.0
    train: bool = False

    def __post_init__(self):
        check_form(self.form, self.dtype, self.dropout)
        if not 1 <= self.heads <= self.width:
            raise UserError(f"heads is {self.heads}: give 1 to {self.width}, the attention's width")
        super().__post_init__()

    @nn.compact
    def __call__(self, query: jax.Array, source: jax.Array) -> jax.Array:
        """Return what each query (B, L, D) reads from `source` (B, S, E), (B, L, D)."""
        heads = ("heads", self.heads), ("head_dim", self.width // self.heads)

        def project(name: str, x_BxLxD: jax.Array, scale: float = 1.0) -> jax.Array:
            width = ("embed", x_BxLxD.shape[-1])
            kernel, bias = self.affine(
                name, glorot, width, *heads, bias=slice(-2, None), scale=scale
            )
            return constrain(jnp.einsum("bld,dhk->blhk", x_BxLxD, kernel) + bias[None, None])

        # softmax(q k / sqrt(K)): the factor goes on the query's weights, the smallest array.
        q_BxLxHxK = project("query", query, 1 / math.sqrt(self.width // self.heads))
        k_BxSxHxK = project("key", source)
        v_BxSxHxK = project("value", source)
        if self.form == "einsum":
            mixed_BxLxHxK = self._mix(q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        else:
            implementation: Any = self.form  # 'xla' or 'cudnn', which the types want spelled out
            mixed_BxLxHxK = jax.nn.dot_product_attention(
                q_BxLxHxK, k_BxSxHxK, v_BxSxHxK, scale=1.0, implementation=implementation
            )
        kernel, bias = self.affine("out", glorot, *heads, ("embed", query.shape[-1]))
        out = jnp.einsum("blhk,hkd->bld", constrain(mixed_BxLxHxK), kernel)
        return constrain(out + bias[None, None])

    def _mix(self, q_BxLxHxK: jax.Array, k_BxSxHxK: jax.Array, v_BxSxHxK: jax.Array) -> jax.Array:
        """Return softmax(q k) v. The factor 1 / sqrt(K) is in q already."""
        # Heads come before positions, and the division by the softmax's sum after the sum over s,
        # where the array is smallest: on a CPU this takes half the time of the plainest form.
        q_BxHxLxK, k_BxHxSxK, v_BxHxSxK = (
            rearrange(x, "b l h k -> b h l k") for x in (q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        )
        # bfloat16 in, float32 sums
        einsum = functools.partial(jnp.einsum, preferred_element_type=self.param_dtype)
        logits_BxHxLxS = einsum("bhlk,bhsk->bhls", q_BxHxLxK, k_BxHxSxK)
        # softmax(x) = softmax(x - max x), whose exponentials cannot overflow; its gradient is the
        # same whatever is subtracted.
        highest = jax.lax.stop_gradient(logits_BxHxLxS.max(-1, keepdims=True))
        weights = jnp.exp(logits_BxHxLxS - highest)
        total = weights.sum(-1, keepdims=True)
        self.sow("intermediates", "weights", weights / total)  # kept for rin_jax.inspection alone
        weights = Dropout(self.dropout, self.train)(weights).astype(self.dtype)
        mixed = einsum("bhls,bhsk->bhlk", weights, v_BxHxSxK)
        return rearrange((mixed / total).astype(self.dtype), "b h l k -> b l h k")


class FeedForward(Layer):
    """LayerNorm -> Dense -> exact GELU -> dropout -> Dense, the residual branch only.

    Attributes:
      ratio: hidden width over input width.
      dropout: rate on the hidden units, when `train`.
    """

    ratio: int
    dropout: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the branch of x (B, L, D), (B, L, D)."""
        dim = x.shape[-1]
        x = Norm(**self.dtypes, name="norm")(x)
        x = gelu(self.dense("up", dim * self.ratio, ("embed", "mlp"), x))
        x = Dropout(self.dropout, self.train)(x)
        return self.dense("down", dim, ("mlp", "embed"), x)
