"""The diffusion process q(x_t | x_0) and the conversions between eps, x0 and v.

    x_t = sqrt(gamma) x0 + sqrt(1 - gamma) eps          v = sqrt(gamma) eps - sqrt(1 - gamma) x0

gamma broadcasts from (B,) over the axes of x.
"""

import jax
import jax.numpy as jnp

PREDICTIONS = ("eps", "x0", "v")


def expand(per_example: jax.Array, like: jax.Array) -> jax.Array:
    """(B,) -> (B, 1, ..., 1), with as many axes as `like`."""
    return per_example.reshape(per_example.shape + (1,) * (like.ndim - per_example.ndim))


def diffuse(x0: jax.Array, eps: jax.Array, gamma: jax.Array) -> jax.Array:
    """A draw of q(x_t | x_0) from its noise."""
    gamma = expand(gamma, x0)
    return x0 * jnp.sqrt(gamma) + eps * jnp.sqrt(1 - gamma)


def x0_from_eps(x_t: jax.Array, eps: jax.Array, gamma: jax.Array) -> jax.Array:
    """(x_t - sqrt(1 - gamma) eps) / sqrt(gamma)."""
    gamma = expand(gamma, x_t)
    return (x_t - jnp.sqrt(1 - gamma) * eps) / jnp.sqrt(gamma)


def eps_from_x0(x_t: jax.Array, x0: jax.Array, gamma: jax.Array) -> jax.Array:
    """(x_t - sqrt(gamma) x0) / sqrt(1 - gamma)."""
    gamma = expand(gamma, x_t)
    return (x_t - jnp.sqrt(gamma) * x0) / jnp.sqrt(1 - gamma)


def velocity(x0: jax.Array, eps: jax.Array, gamma: jax.Array) -> jax.Array:
    """sqrt(gamma) eps - sqrt(1 - gamma) x0."""
    gamma = expand(gamma, x0)
    return jnp.sqrt(gamma) * eps - jnp.sqrt(1 - gamma) * x0


def to_x0_eps(
    output: jax.Array,
    x_t: jax.Array,
    gamma: jax.Array,
    prediction: str,
    clip: float | None,
    *,
    consistent_eps: bool,
) -> tuple[jax.Array, jax.Array]:
    """What a network's output says of x0 and of eps.

    Args:
      output: the network's output, shaped like `x_t`.
      prediction: what it stands for: 'eps', 'x0' or 'v'.
      clip: x0 is clipped to [-clip, clip]; None leaves it.
      consistent_eps: recompute eps from the clipped x0, as samplers do; losses take the network's.

    Returns:
      (x0, eps).
    """
    power = expand(gamma, x_t)
    if prediction == "eps":
        x0, eps = x0_from_eps(x_t, output, gamma), output
    elif prediction == "x0":
        x0, eps = output, None
    else:
        x0 = jnp.sqrt(power) * x_t - jnp.sqrt(1 - power) * output
        eps = jnp.sqrt(1 - power) * x_t + jnp.sqrt(power) * output
    if clip is not None:
        x0 = jnp.clip(x0, -clip, clip)
    if consistent_eps or eps is None:
        eps = eps_from_x0(x_t, x0, gamma)
    return x0, eps


def unit_variance(x_t: jax.Array) -> jax.Array:
    """x_t / std(x_t) per example: what the network alone sees where the input scale is not 1."""
    return x_t / jnp.std(x_t, axis=tuple(range(1, x_t.ndim)), keepdims=True)


def to_model_range(images: jax.Array, scale: float) -> jax.Array:
    """uint8 or [0, 1] float images -> [-scale, scale] float32 or wider (scale is the paper's b)."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return (images * 2 - 1) * scale


def to_uint8(x0: jax.Array, scale: float) -> jax.Array:
    """[-scale, scale] -> uint8, rounding to nearest."""
    unit = jnp.clip(x0 / scale / 2 + 0.5, 0, 1)
    return jnp.round(unit * 255).astype(jnp.uint8)
