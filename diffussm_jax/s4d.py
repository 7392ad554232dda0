"""S4D: diagonal state spaces, discretised, as long convolution kernels (arXiv 2206.11893).

A state space x' = A x + B u, y = C x with diagonal A is N equations x_n' = A_n x_n + u_n (1). Held
constant over steps of dt, u makes of each a recurrence that is solved by a convolution:

    x_n[l] = exp(dt A_n) x_n[l - 1] + (exp(dt A_n) - 1) / A_n u[l]       zero-order hold, B = 1 (2)
    K[l] = 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n exp(dt A_n l)          y = K * u              (3)

N real states are N/2 conjugate pairs, of which n counts one each: hence 2 Re. The exponentials are
of float32 or wider always: rounding dt A to bfloat16 alone costs 10%.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.fields import COUNT

STARTS = ("lin", "inv", "legs")
# Bounds of the parameters' logarithms: beyond them the gradient is zero, the kernel finite.
LOG_DT = (math.log(1e-5), math.log(1e1))
LOG_DECAY = (math.log(1e-4), math.log(1e4))


def even(name: str, value: int) -> int:
    """Return a number of states. Raise `UserError` unless they make conjugate pairs."""
    if COUNT(name, value) % 2:
        raise UserError(f"{name} is {value}: conjugate pairs need an even number")
    return value


class Modes(NamedTuple):
    """A discretised state space: K[l] = Re sum_n weight_n exp(rate_n l), real parts negative.

    Attributes:
      rate_re, rate_im, weight_re, weight_im: (H, M) float, M modes to each of H kernels.
    """

    rate_re: jax.Array
    rate_im: jax.Array
    weight_re: jax.Array
    weight_im: jax.Array


def start_state_matrix(start: str, state_size: int) -> np.ndarray:
    """Return the N/2 eigenvalues of A with positive imaginary part, complex128.

    'lin': -1/2 + i pi n. 'inv': -1/2 + i N/pi (N/(2n + 1) - 1). 'legs': of HiPPO-LegS' normal part.

    Raises:
      UserError: for an unknown start or an odd `state_size`.
    """
    check_choice("start", start, STARTS)
    even("state_size", state_size)
    n = np.arange(state_size // 2)
    if start == "lin":
        return -0.5 + 1j * np.pi * n
    if start == "inv":
        return -0.5 + 1j * state_size / np.pi * (state_size / (2 * n + 1) - 1)
    # LegS = normal - low rank; the normal part is -1/2 I + skew-symmetric.
    root = np.sqrt(2 * np.arange(state_size) + 1.0)
    skew = -0.5 * np.tril(np.outer(root, root), -1)
    eigenvalues = np.linalg.eigvals(skew - skew.T)
    imaginary = np.sort(eigenvalues.imag[eigenvalues.imag > 0])
    return -0.5 + 1j * imaginary


def discretise(
    log_dt: jax.Array, log_decay: jax.Array, frequency: jax.Array, c: jax.Array
) -> Modes:
    """Discretise A = -exp(log_decay) + i frequency, in conjugate pairs, whatever is learnt stable.

    Args:
      log_dt: (H,) log of the step.
      log_decay, frequency: (H, N/2).
      c: (H, N/2, 2) real and imaginary part of C.
    """
    decay = jnp.exp(jnp.clip(log_decay, *LOG_DECAY))
    return zero_order_hold(log_dt, jax.lax.complex(-decay, frequency), 2 * c)


def zero_order_hold(log_dt: jax.Array, a: jax.Array, c: jax.Array) -> Modes:
    """Equation 2: rate = dt A, weight = C (exp(dt A) - 1) / A, of complex A (H, M), C (H, M, 2)."""
    rate = a * jnp.exp(jnp.clip(log_dt, *LOG_DT))[:, None].astype(a.dtype)
    # expm1: exp(z) - 1 of a small z would cancel.
    weight = jax.lax.complex(c[..., 0], c[..., 1]) * jnp.expm1(rate) / a
    return Modes(rate.real, rate.imag, weight.real, weight.imag)


@jax.custom_jvp
def exponentials(rate_re: jax.Array, rate_im: jax.Array, steps: jax.Array):
    """Real and imaginary part of exp(rate l), (H, M, len(steps)), for l in `steps` (float)."""
    size = jnp.exp(rate_re[..., None] * steps[None, None])
    angle = rate_im[..., None] * steps[None, None]
    return size * jnp.cos(angle), size * jnp.sin(angle)


@exponentials.defjvp
def _exponentials_jvp(primals, tangents):
    """l exp(rate l): needs the values alone, a quarter of what autodiff would keep."""
    re, im = exponentials(*primals)
    steps = primals[2][None, None]
    along_re, along_im = (tangent[..., None] * steps for tangent in tangents[:2])
    return (re, im), (re * along_re - im * along_im, re * along_im + im * along_re)


def powers(modes: Modes, steps: jax.Array) -> jax.Array:
    """Real, then imaginary parts of exp(rate l), (H, 2M, len(steps)), at integer `steps` l."""
    parts = exponentials(modes.rate_re, modes.rate_im, steps.astype(modes.rate_re.dtype))
    return jnp.concatenate(parts, axis=1)


def weighted_powers(modes: Modes, steps: jax.Array) -> jax.Array:
    """What multiplies `powers` at l' to give K[l + l'], (H, 2M, len(steps)).

    Re(weight exp(rate l)), then -Im: the sum over 2M is the real part of the complex product.
    """
    re, im = jnp.split(powers(modes, steps), 2, axis=1)
    w_re, w_im = modes.weight_re[..., None], modes.weight_im[..., None]
    return jnp.concatenate([w_re * re - w_im * im, -(w_re * im + w_im * re)], axis=1)


def kernel(modes: Modes, length: int) -> jax.Array:
    """K[0:length], (H, length), in O(H M sqrt(length)) memory.

    Equation 3 as it stands needs exp(dt A_n l) for all n and l, O(H M length). With l = l1 L2 + l2
    it is the product of two factors, and the sum over modes one real matmul of (L1, 2M) by (2M, L2)
    a kernel.
    """
    inner = 2 ** round(math.log2(max(length, 1)) / 2)
    outer = -(-length // inner)
    coarse = weighted_powers(modes, jnp.arange(outer) * inner)
    fine = powers(modes, jnp.arange(inner))
    product = jnp.einsum("hmi,hmj->hij", coarse, fine, precision=jax.lax.Precision.HIGHEST)
    return rearrange(product, "h i j -> h (i j)")[:, :length]
