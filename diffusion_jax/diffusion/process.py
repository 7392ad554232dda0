"""The diffusion process q(x_t | x_0), its reversal, and the conversions between eps, x0 and v.

    x_t = alpha x0 + sigma eps          (arXiv 2006.11239, eq. 4, with gamma for alphabar)
    v   = alpha eps - sigma x0          (arXiv 2202.00512, appendix D)

Since alpha^2 + sigma^2 = 1, (x_t, v) is (x0, eps) rotated, and any two of the four give the others.
A noise level's (B,) values broadcast over the axes of x.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Array, NoiseLevel
from diffusion_jax.errors import UserError

PREDICTIONS = ("eps", "x0", "v")


class NotFiniteError(UserError):
    """Samples that hold NaN or infinity, or come of such numbers."""


def expand(per_example: jax.Array, like: Array) -> jax.Array:
    """Reshape (B,) to (B, 1, ..., 1), with as many axes as `like`."""
    return per_example.reshape(per_example.shape + (1,) * (like.ndim - per_example.ndim))


def _amplitudes(noise: NoiseLevel, like: Array) -> tuple[jax.Array, jax.Array]:
    """Return alpha and sigma, with as many axes as `like`."""
    return expand(noise.alpha, like), expand(noise.sigma, like)


def diffuse(x0: Array, eps: Array, noise: NoiseLevel) -> jax.Array:
    """Return alpha x0 + sigma eps: for standard normal eps a draw of q(x_t | x_0); all (B, ...)."""
    alpha, sigma = _amplitudes(noise, x0)
    return alpha * x0 + sigma * eps


def x0_from_eps(x_t: jax.Array, eps: jax.Array, noise: NoiseLevel) -> jax.Array:
    """Return (x_t - sigma eps) / alpha, all (B, ...)."""
    alpha, sigma = _amplitudes(noise, x_t)
    return (x_t - sigma * eps) / alpha


def eps_from_x0(x_t: jax.Array, x0: jax.Array, noise: NoiseLevel) -> jax.Array:
    """Return (x_t - alpha x0) / sigma, all (B, ...)."""
    alpha, sigma = _amplitudes(noise, x_t)
    return (x_t - alpha * x0) / sigma


def velocity(x0: jax.Array, eps: jax.Array, noise: NoiseLevel) -> jax.Array:
    """Return v = alpha eps - sigma x0, all (B, ...)."""
    alpha, sigma = _amplitudes(noise, x0)
    return alpha * eps - sigma * x0


def to_x0_eps(
    output: jax.Array,
    x_t: jax.Array,
    noise: NoiseLevel,
    prediction: str,
    clip: float | None,
    *,
    consistent_eps: bool,
) -> tuple[jax.Array, jax.Array]:
    """Turn a network's output into estimates of x0 and eps.

    Args:
      output: the network's output, shaped like `x_t`.
      prediction: what it stands for: 'eps', 'x0' or 'v'.
      clip: x0 is clipped to [-clip, clip]; None leaves it.
      consistent_eps: recompute eps from the clipped x0, as samplers do; losses take the network's.

    Returns:
      (x0, eps).
    """
    if prediction == "eps":
        x0, eps = x0_from_eps(x_t, output, noise), output
    elif prediction == "x0":
        x0, eps = output, None
    else:
        alpha, sigma = _amplitudes(noise, x_t)
        x0 = alpha * x_t - sigma * output  # the rotation back
        eps = sigma * x_t + alpha * output
    if clip is not None:
        x0 = jnp.clip(x0, -clip, clip)
    if consistent_eps or eps is None:
        eps = eps_from_x0(x_t, x0, noise)
    return x0, eps


class Transition(NamedTuple):
    """One reverse step, from the noise level `now` down to `next`; its values have one shape.

    Attributes:
      now, next: the noise levels.
      beta: 1 - gamma_now / gamma_next, the power of the noise that the forward step adds.
      log_posterior: log variance of q(x_next | x_now, x_0); at the last step of a discrete
        schedule, where it would be -inf, that of the step before. None in continuous time.
    """

    now: NoiseLevel
    next: NoiseLevel
    beta: jax.Array
    log_posterior: jax.Array | None = None


def transition(now: NoiseLevel, next: NoiseLevel) -> Transition:
    """Return the step between two levels of continuous time."""
    # In logarithms, since gamma falls to 1e-9.
    ratio = jnp.exp(jnp.log(now.gamma) - jnp.log(next.gamma))
    return Transition(now, next, 1 - jnp.clip(ratio, 0.0, 1.0))


def posterior_mean(x0: jax.Array, x_t: jax.Array, step: Transition) -> jax.Array:
    """Return the mean of q(x_next | x_t, x_0), all (B, ...) (arXiv 2006.11239, eq. 7)."""
    variance = step.now.sigma_squared
    of_x0 = step.beta * step.next.alpha / variance
    of_x_t = step.now.alpha / step.next.alpha * step.next.sigma_squared / variance
    return expand(of_x0, x0) * x0 + expand(of_x_t, x_t) * x_t


def learned_log_variance(channels: jax.Array, step: Transition) -> jax.Array:
    """Return f log beta + (1 - f) log posterior, f = (channels + 1) / 2 (arXiv 2102.09672, eq. 15).

    Args:
      channels: (B, ...) the learned-variance channels; -1 is the posterior's variance, 1 is beta.
    """
    assert step.log_posterior is not None  # the schedule is discrete
    f = (channels + 1) / 2
    high, low = (expand(part, channels) for part in (jnp.log(step.beta), step.log_posterior))
    return f * high + (1 - f) * low


def unit_variance(x_t: jax.Array) -> jax.Array:
    """Return x_t / std(x_t) of each example (arXiv 2301.10972); x_t is (B, ...)."""
    return x_t / jnp.std(x_t, axis=tuple(range(1, x_t.ndim)), keepdims=True)


def to_model_range(images: Array, scale: float) -> Array:
    """Map images of any shape, uint8 or floats in [0, 1], to [-scale, scale], float32 or wider.

    scale is b of arXiv 2301.10972: a smaller one makes every noise level noisier.
    """
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return (images * 2 - 1) * scale


def to_uint8(x0: Array, scale: float) -> jax.Array:
    """Map floats of any shape in [-scale, scale] to uint8, rounded to nearest.

    A jitted program cannot refuse values: it has to return whether they are finite, for its caller
    to `check_finite`.

    Raises:
      NotFiniteError: if x0 is not finite, outside of a jitted program.
    """
    if not isinstance(x0, jax.core.Tracer):
        check_finite(everywhere(jnp.isfinite(jnp.atleast_1d(x0))))
    unit = jnp.clip(x0 / scale / 2 + 0.5, 0, 1)
    return jnp.round(unit * 255).astype(jnp.uint8)


def everywhere(holds: jax.Array) -> jax.Array:
    """Return whether (B, ...) bool holds everywhere in an example, (B,)."""
    return holds.all(axis=tuple(range(1, holds.ndim)))


def check_finite(finite: jax.Array, indices: np.ndarray | None = None) -> None:
    """Raise `NotFiniteError`, naming the first by its index, unless all of `finite` (B,) hold."""
    wrong = np.flatnonzero(~np.asarray(finite))
    if len(wrong):
        sample = wrong[0] if indices is None else indices[wrong[0]]
        raise NotFiniteError(
            f"sample {sample} is not finite (so are {len(wrong)} of {len(finite)}): it cannot be "
            "made an image; check the weights"
        )
