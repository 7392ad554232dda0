"""The arithmetic that all norms of both networks share."""

import jax
import jax.numpy as jnp


def normalise(x: jax.Array, axes: int | tuple[int, ...] = -1, epsilon: float = 1e-6) -> jax.Array:
    """Return x with mean 0 and variance 1 over `axes`, in float32 or wider.

    The variance is the mean of the squared centred values. E[x^2] - E[x]^2, the default of
    `nn.LayerNorm`, cancels where the mean is large. With `use_fast_variance=False` that layer
    centres twice, so that its gradient differs from this one in the last bit: a run that continues
    would leave its curve.
    """
    x = x.astype(jnp.float32 if x.dtype.itemsize < 4 else x.dtype)
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + epsilon)
