"""The two residual branches of a transformer layer, as the reference writes them."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.parallel.sharding import constrain

Dtype = jnp.dtype
FORMS = ("einsum", "xla", "cudnn")
glorot = nn.initializers.glorot_uniform()  # on 3-D kernels the same fans as Keras: see reference


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


class LayerNorm(nn.Module):
    """LayerNorm, epsilon 1e-6, whose statistics are taken in `param_dtype`.

    Attributes:
      dtype: of the output; parameters are `param_dtype`, float32 or wider.
      scale_init: of the scale; the bias starts at 0.
    """

    dtype: Dtype
    param_dtype: Dtype
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, L, D) -> (B, L, D)."""
        scale = self.param("scale", self.scale_init, (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
        x = constrain(x).astype(self.param_dtype)
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
        return (x * scale[None, None] + bias[None, None]).astype(self.dtype)


class Dense(nn.Dense):
    """A dense layer, Glorot-uniform with a zero bias, whose output stays split by example."""

    kernel_init: nn.initializers.Initializer = glorot

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, ..., D) -> (B, ..., features)."""
        return constrain(super().__call__(x))


class MultiHeadAttention(nn.Module):
    """Multi-head attention with biases, softmax in float32 or wider.

    The output is as wide as the query's input. Heads need not divide `width`: a head gets
    `width // heads` channels, as in the reference.

    Attributes:
      heads: number of heads.
      width: total key (and value) width before rounding down to a multiple of `heads`.
      dtype: compute dtype; parameters are `param_dtype`.
      form: 'einsum', or an implementation of `jax.nn.dot_product_attention`: 'xla', 'cudnn'.
      dropout: rate on the attention weights, when `train`; of the form 'einsum' alone.

    Raises:
      UserError: on construction, for more heads than channels, or what the form does not do.
    """

    heads: int
    width: int
    dtype: Dtype
    param_dtype: Dtype
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
        """(B, L, D), (B, S, E) -> (B, L, D)."""
        head_dim = self.width // self.heads

        def project(name: str, x_BxLxD: jax.Array, scale: float = 1.0) -> jax.Array:
            kernel, bias = self._affine(
                name, (x_BxLxD.shape[-1], self.heads, head_dim), (self.heads, head_dim), scale
            )
            return constrain(jnp.einsum("bld,dhk->blhk", x_BxLxD, kernel) + bias[None, None])

        # The weights are the smallest of what 1/sqrt(K) could multiply.
        q_BxLxHxK = project("query", query, 1 / math.sqrt(head_dim))
        k_BxSxHxK = project("key", source)
        v_BxSxHxK = project("value", source)
        if self.form == "einsum":
            mixed = self._mix(q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        else:
            mixed = jax.nn.dot_product_attention(
                q_BxLxHxK, k_BxSxHxK, v_BxSxHxK, scale=1.0, implementation=self.form
            )
        mixed = constrain(mixed)
        out_dim = query.shape[-1]
        kernel, bias = self._affine("out", (self.heads, head_dim, out_dim), (out_dim,))
        return constrain(jnp.einsum("blhk,hkd->bld", mixed, kernel) + bias[None, None])

    def _mix(self, q_BxLxHxK: jax.Array, k_BxSxHxK: jax.Array, v_BxSxHxK: jax.Array) -> jax.Array:
        # Heads before positions, and normalised where it is smallest: on CPU this takes half the
        # time of the plainest form.
        q_BxHxLxK, k_BxHxSxK, v_BxHxSxK = (
            x.swapaxes(1, 2) for x in (q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        )
        logits_BxHxLxS = jnp.einsum(
            "bhlk,bhsk->bhls", q_BxHxLxK, k_BxHxSxK, preferred_element_type=self.param_dtype
        )
        highest = jax.lax.stop_gradient(logits_BxHxLxS.max(-1, keepdims=True))
        weights = jnp.exp(logits_BxHxLxS - highest)
        total = weights.sum(-1, keepdims=True)
        self.sow("intermediates", "weights", weights / total)  # kept for rin_jax.inspection alone
        weights = Dropout(self.dropout, self.train)(weights)
        mixed = jnp.einsum(
            "bhls,bhsk->bhlk",
            weights.astype(self.dtype),
            v_BxHxSxK,
            preferred_element_type=self.param_dtype,
        )
        return (mixed / total).astype(self.dtype).swapaxes(1, 2)

    def _affine(self, name: str, kernel_shape, bias_shape, scale: float = 1.0):
        kernel = self.param(f"{name}_kernel", glorot, kernel_shape, self.param_dtype)
        bias = self.param(f"{name}_bias", nn.initializers.zeros, bias_shape, self.param_dtype)
        return (kernel * scale).astype(self.dtype), (bias * scale).astype(self.dtype)


class FeedForward(nn.Module):
    """LayerNorm -> Dense -> exact GELU -> dropout -> Dense, the residual branch only.

    Attributes:
      ratio: hidden width over input width.
      dropout: rate on the hidden units, when `train`.
    """

    ratio: int
    dtype: Dtype
    param_dtype: Dtype
    dropout: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, L, D) -> (B, L, D)."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dim = x.shape[-1]
        x = LayerNorm(**dtypes, name="norm")(x)
        x = Dense(dim * self.ratio, **dtypes, name="up")(x)
        x = gelu(x)
        x = Dropout(self.dropout, self.train)(x)
        return Dense(dim, **dtypes, name="down")(x)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, of which the backward pass keeps nothing but its input."""
    return nn.gelu(x, approximate=False)


class Dropout(nn.Module):
    """Drops single units, by 16 random bits each: two to a draw of the generator.

    Attributes:
      rate: probability of being dropped, rounded to 1/65536; the rest is scaled by 1 / (1 - rate).
      train: false drops none; true needs the rng 'dropout'.
    """

    rate: float
    train: bool

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape."""
        dropped = round(self.rate * 2**16)
        if not self.train or dropped == 0:
            return x
        if dropped == 2**16:
            return jnp.zeros_like(x)
        *batch, width = x.shape
        pairs = jax.random.bits(self.make_rng("dropout"), (*batch, -(-width // 2)), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(pairs, jnp.uint16).reshape(*batch, -1)[..., :width]
        return jnp.where(bits >= dropped, x / (1 - dropped / 2**16), 0)


class DropPath(nn.Module):
    """Drops a whole residual branch per example (stochastic depth, arXiv 1603.09382).

    Attributes:
      rate: probability of being dropped; kept branches are scaled by 1 / (1 - rate).
      train: false drops none; true needs the rng 'dropout'.
    """

    rate: float
    train: bool

    def __call__(self, branch: jax.Array) -> jax.Array:
        """(B, L, D) -> (B, L, D)."""
        if not self.train or self.rate == 0.0:
            return branch
        shape = (branch.shape[0], 1, 1)
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(kept, branch / (1 - self.rate), 0)
