"""The two residual branches of a transformer layer, as the reference writes them.

Names of arrays end in their axes: B examples, L queries, S source tokens, D and E widths, H heads,
K channels of a head.
"""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.normalisation import normalise
from diffusion_jax.parallel.axes import declare, dense_inits
from diffusion_jax.parallel.sharding import constrain

Dtype = jnp.dtype
FORMS = ("einsum", "xla", "cudnn")
# On the 3-D kernels of attention it takes the fans that Keras takes, (D H, D K) of a query's
# kernel: limits 4 to 6 times smaller than those of the same matrix written (D, H K).
glorot = nn.initializers.glorot_uniform()
LAST = slice(-1, None)
zeros, ones = nn.initializers.zeros, nn.initializers.ones


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


class Layer(nn.Module, kw_only=True):
    """Base of RIN's layers.

    Attributes:
      dtype: of matmuls and outputs.
      param_dtype: of parameters and of the statistics of norms and softmax, float32 or wider.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @property
    def dtypes(self) -> dict[str, Dtype]:
        """The dtypes, for a layer inside of this one."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def affine(
        self,
        name: str,
        init: nn.initializers.Initializer,
        *axes: tuple[str, int],
        bias: slice = LAST,
        scale: float = 1.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Make the parameters NAME_kernel and NAME_bias, and return them times `scale` in `dtype`.

        Args:
          axes: name and size of each axis of the kernel; `bias` selects those of the bias.
        """
        names, shape = zip(*axes, strict=True)
        kernel_init = declare(init, *names)
        bias_init = declare(zeros, *names[bias], adapted=False)
        weights = (
            self.param(f"{name}_kernel", kernel_init, shape, self.param_dtype),
            self.param(f"{name}_bias", bias_init, shape[bias], self.param_dtype),
        )
        return tuple((weight * scale).astype(self.dtype) for weight in weights)

    def dense(self, name: str, width: int, axes: tuple[str, str], x: jax.Array) -> jax.Array:
        """Apply a Glorot-uniform dense layer (B, ..., D) -> (B, ..., width), split by example.

        Args:
          axes: names of the kernel's axes.
        """
        layer = nn.Dense(width, **dense_inits(glorot, *axes), **self.dtypes, name=name)
        return constrain(layer(x))


class Norm(Layer):
    """LayerNorm, or GroupNorm of images, with statistics in `param_dtype`.

    Attributes:
      groups: groups of channels that are normalised together with all positions of an image
        (B, H, W, D); 0 normalises each position of (B, ..., D) by itself.
      scale_init: of the scale; the bias starts at 0.
    """

    groups: int = 0
    scale_init: nn.initializers.Initializer = ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, ..., D) -> (B, ..., D)."""
        scale, bias = (
            self.param(name, declare(init, "embed", adapted=False), x.shape[-1:], self.param_dtype)
            for name, init in (("scale", self.scale_init), ("bias", zeros))
        )
        if self.groups:
            x = rearrange(x.astype(self.param_dtype), "b h w (g d) -> b h w g d", g=self.groups)
            normed = rearrange(normalise(x, (1, 2, 4), 1e-5), "b h w g d -> b h w (g d)")
        else:
            normed = normalise(constrain(x).astype(self.param_dtype))
        expand = (None,) * (normed.ndim - 1)
        return (normed * scale[expand] + bias[expand]).astype(self.dtype)


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
        """(B, L, D), (B, S, E) -> (B, L, D)."""
        heads = ("heads", self.heads), ("head_dim", self.width // self.heads)

        def project(name: str, x_BxLxD: jax.Array, scale: float = 1.0) -> jax.Array:
            width = ("embed", x_BxLxD.shape[-1])
            kernel, bias = self.affine(
                name, glorot, width, *heads, bias=slice(-2, None), scale=scale
            )
            return constrain(jnp.einsum("bld,dhk->blhk", x_BxLxD, kernel) + bias[None, None])

        # 1/sqrt(K) multiplies the weights, the smallest of what it could multiply.
        q_BxLxHxK = project("query", query, 1 / math.sqrt(self.width // self.heads))
        k_BxSxHxK = project("key", source)
        v_BxSxHxK = project("value", source)
        if self.form == "einsum":
            mixed_BxLxHxK = self._mix(q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        else:
            mixed_BxLxHxK = jax.nn.dot_product_attention(
                q_BxLxHxK, k_BxSxHxK, v_BxSxHxK, scale=1.0, implementation=self.form
            )
        kernel, bias = self.affine("out", glorot, *heads, ("embed", query.shape[-1]))
        out = jnp.einsum("blhk,hkd->bld", constrain(mixed_BxLxHxK), kernel)
        return constrain(out + bias[None, None])

    def _mix(self, q_BxLxHxK: jax.Array, k_BxSxHxK: jax.Array, v_BxSxHxK: jax.Array) -> jax.Array:
        # Heads before positions, and normalised where it is smallest, after the sum over s: on CPU
        # this takes half the time of the plainest form.
        q_BxHxLxK, k_BxHxSxK, v_BxHxSxK = (
            rearrange(x, "b l h k -> b h l k") for x in (q_BxLxHxK, k_BxSxHxK, v_BxSxHxK)
        )
        wide = {"preferred_element_type": self.param_dtype}  # bfloat16 in, float32 sums
        logits_BxHxLxS = jnp.einsum("bhlk,bhsk->bhls", q_BxHxLxK, k_BxHxSxK, **wide)
        # softmax(x) = softmax(x - max x), whose exponentials cannot overflow; its gradient is the
        # same whatever is subtracted.
        highest = jax.lax.stop_gradient(logits_BxHxLxS.max(-1, keepdims=True))
        weights = jnp.exp(logits_BxHxLxS - highest)
        total = weights.sum(-1, keepdims=True)
        self.sow("intermediates", "weights", weights / total)  # kept for rin_jax.inspection alone
        weights = Dropout(self.dropout, self.train)(weights).astype(self.dtype)
        mixed = jnp.einsum("bhls,bhsk->bhlk", weights, v_BxHxSxK, **wide)
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
        """(B, L, D) -> (B, L, D)."""
        dim = x.shape[-1]
        x = Norm(**self.dtypes, name="norm")(x)
        x = gelu(self.dense("up", dim * self.ratio, ("embed", "mlp"), x))
        x = Dropout(self.dropout, self.train)(x)
        return self.dense("down", dim, ("mlp", "embed"), x)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, x Phi(x), of which the backward pass keeps nothing but its input."""
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
        bits = jax.lax.bitcast_convert_type(pairs, jnp.uint16)
        bits = rearrange(bits, "... pair half -> ... (pair half)")[..., :width]
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
