"""The variational bound with learned variances, in bits (arXiv 2102.09672, section 3.1)."""

import math

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.process import Transition, expand

HALF_BIN = 1 / 255  # half of a grey level, of data in [-1, 1]
FLOOR = math.log(1e-12)  # of the log-likelihood of a bin


def bound(
    x0: jax.Array, x_t: jax.Array, x0_hat: jax.Array, log_variance: jax.Array, step: Transition
) -> jax.Array:
    """Return one term of the bound (arXiv 2006.11239, eq. 5).

    It is KL(q || p) of a reverse step, and at step 0 the likelihood of x0 (eq. 13).

    Args:
      x0: (B, ...) data in [-1, 1].
      x_t: (B, ...) noised data.
      x0_hat: (B, ...) the network's estimate of x0.
      log_variance: (B, ...) log variance of the network's reverse step.
      step: of a `DiscreteSchedule`, values (B,).

    Returns:
      (B,) bits per element.
    """
    assert step.log_posterior is not None  # the schedule is discrete
    mean = process.posterior_mean(x0_hat, x_t, step)
    divergence = normal_kl(
        process.posterior_mean(x0, x_t, step),
        expand(step.log_posterior, x0),
        mean,
        log_variance,
    )
    likelihood = bin_log_likelihood(x0, mean, log_variance / 2)
    is_last = expand(step.next.sigma_squared == 0, x0)
    nats = jnp.where(is_last, -likelihood, divergence)
    return nats.mean(axis=tuple(range(1, nats.ndim))) / math.log(2)


def normal_kl(
    mean: jax.Array, log_variance: jax.Array, mean_hat: jax.Array, log_variance_hat: jax.Array
) -> jax.Array:
    """Return KL(N(mean, variance) || N(mean_hat, variance_hat)), elementwise, in nats."""
    difference = log_variance - log_variance_hat
    squared = jnp.square(mean - mean_hat) * jnp.exp(-log_variance_hat)
    return (jnp.exp(difference) - 1 - difference + squared) / 2


def bin_log_likelihood(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Return log P of the grey level around x under N(mean, exp(log_scale)^2), in nats.

    The normal cdf is approximated by sigmoid(u(z)), u(z) = sqrt(8 / pi) (z + 0.044715 z^3), as in
    the reference, and the outermost bins reach to infinity. The difference of two cdfs,

        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),

    is taken in logarithms: subtracted in float32 nothing is left of it from |z| = 4.5 on.
    """
    inverse = jnp.exp(-log_scale)
    high = (x - mean + HALF_BIN) * inverse
    low = (x - mean - HALF_BIN) * inverse
    a, b = (_to_logistic(z, z * z) for z in (high, low))
    gap = _to_logistic(2 * HALF_BIN * inverse, high * high + high * low + low * low)  # a - b
    below = jax.nn.log_sigmoid(a)
    above = jax.nn.log_sigmoid(-b)
    # jnp.where keeps gradients of what it does not choose: they must be finite.
    inside = below + above + jnp.log(-jnp.expm1(-jnp.maximum(gap, jnp.finfo(x.dtype).tiny)))
    value = jnp.where(x < -0.999, below, jnp.where(x > 0.999, above, inside))
    return jnp.maximum(value, FLOOR)


def _to_logistic(factor: jax.Array, square: jax.Array) -> jax.Array:
    """Return sqrt(8 / pi) factor (1 + 0.044715 square): u(z) from (z, z^2), or a difference."""
    return math.sqrt(8 / math.pi) * factor * (1 + 0.044715 * square)
