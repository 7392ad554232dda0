"""The layers that all parts of a RIN are made of."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.normalisation import normalise
from diffusion_jax.parallel.axes import declare, dense_inits
from diffusion_jax.parallel.sharding import constrain

Dtype = jnp.dtype
# On the 3-D kernels of attention it takes the fans that Keras takes, (D H, D K) of a query's
# kernel: limits 4 to 6 times smaller than those of the same matrix written (D, H K).
glorot = nn.initializers.glorot_uniform()
zeros, ones = nn.initializers.zeros, nn.initializers.ones


class Layer(nn.Module, kw_only=True):  # type: ignore[call-arg]  # Flax's types are skipped
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
        bias: slice = slice(-1, None),
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
