"""The bidirectional long convolution, in two forms that agree.

    forward[t] = sum_{s <= t} K_f[t - s] u[s]          backward[t] = sum_{s >= t} K_b[s - t] u[s]

The kernels are those of state spaces, K[l] = Re sum_n weight_n exp(rate_n l). A skip D u is part of
it, as D added to K[0]: no pass over the sequence of its own. All take u as (B, H, L), or as a pair
of them, one for each direction. Nothing is flipped, and a shared u is transformed once.

Names of arrays end in their axes: B examples, H channels, L positions, M modes; C chunks of T
positions.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.sharding import PartitionSpec

from diffusion_jax.parallel.sharding import BATCH, platform, shard_map
from diffussm_jax.s4d import Modes, kernel, powers, weighted_powers

FORMS = ("auto", "fft", "chunked")
CHUNK = 128

Input = jax.Array | tuple[jax.Array, jax.Array]


def convolve(
    u: Input, forward: Modes, backward: Modes, skip: jax.Array, form: str
) -> tuple[jax.Array, jax.Array]:
    """Convolve on each device its own examples and channels, over the whole length.

    XLA does not partition an FFT: left to it, every device would gather the global batch.

    Args:
      u: (B, H, L), or a pair of them.
      forward, backward: modes of shape (H, M).
      skip: (2, H), of the forward and the backward direction.
      form: 'fft', 'chunked', or 'auto' (see `choose_form`).

    Returns:
      (forward, backward), each (B, H, L).
    """
    length = jax.tree.leaves(u)[0].shape[-1]
    if form == "auto":
        form = choose_form(length, platform())

    def local(u, forward, backward, skip):
        if form == "chunked":
            return convolve_chunked(u, forward, backward, skip)
        return convolve_fft(
            u, *(_with_skip(*each, length) for each in zip((forward, backward), skip, strict=True))
        )

    channels, examples = PartitionSpec("tensor"), PartitionSpec(BATCH, "tensor")
    in_specs = (examples, channels, channels, PartitionSpec(None, "tensor"))
    sharded = shard_map(local, in_specs=in_specs, out_specs=examples)
    return sharded(u, forward, backward, skip)


def choose_form(length: int, platform: str) -> str:
    """Return the form that 'auto' stands for.

    Timed on CPU (docs/long_sequences.md): FFT is faster up to 8,192 positions at least, and further
    where there is more than one narrow example. Not timed: on TPU an FFT does not use the matrix
    units, and chunks, all matmuls, are chosen where there is more than one.
    """
    return "chunked" if platform == "tpu" and length > CHUNK else "fft"


def convolve_fft(u: Input, forward: jax.Array, backward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Convolve by FFT in O(L log L).

    With zeros up to 2L or more, the product of spectra is no longer circular. conj(K) is the
    spectrum of K read backwards in time, so it gives the backward direction without a flip.

    Args:
      u: (B, H, L) float32 or wider, or a pair of them.
      forward, backward: (H, L) kernels, or (1, L) to share one over the channels.

    Returns:
      (forward, backward), each (B, H, L).
    """
    length = forward.shape[-1]
    padded = 2 ** (2 * length - 1).bit_length()  # a power of 2, of at least 2 L
    spectra = jax.tree.map(lambda u: jnp.fft.rfft(u, padded), u)
    k_forward = jnp.fft.rfft(forward, padded)[None]
    k_backward = jnp.conj(jnp.fft.rfft(backward, padded))[None]
    first, second = (
        jnp.fft.irfft(spectrum * k, padded)[..., :length]
        for spectrum, k in zip(_each(spectra), (k_forward, k_backward), strict=True)
    )
    return first, second


def _with_skip(modes: Modes, skip_H: jax.Array, length: int) -> jax.Array:
    """K[0:length], (H, length), with the skip in K[0]."""
    return kernel(modes, length).at[:, 0].add(skip_H)


def _each(u: Input) -> tuple[jax.Array, jax.Array]:
    """Return what the forward and what the backward direction sees."""
    return u if isinstance(u, tuple) else (u, u)


def convolve_chunked(
    u: Input, forward: Modes, backward: Modes, skip: jax.Array, chunk: int = CHUNK
) -> tuple[jax.Array, jax.Array]:
    """Convolve by matmuls: Toeplitz inside a chunk, a carried state between chunks.

    About T + 2M multiply-adds per element and direction, on the matrix units of a TPU.

    Args:
      u: (B, H, L), or a pair of them.
      forward, backward: modes of shape (H, M).
      skip: (2, H).
      chunk: T; L is padded to a multiple of it.

    Returns:
      (forward, backward), each (B, H, L).
    """
    outputs = []
    directions = zip(_each(u), (forward, backward), skip, (False, True), strict=True)
    for u_BxHxL, modes, skip_H, reverse in directions:
        length = u_BxHxL.shape[-1]
        size = min(chunk, length)
        padded = jnp.pad(u_BxHxL, ((0, 0), (0, 0), (0, -length % size)))
        u_BxHxCxT = rearrange(padded, "b h (c t) -> b h c t", t=size)
        toeplitz_HxSxT = _toeplitz(_with_skip(modes, skip_H, size), reverse)
        inside = _matmul("bhcs,hst->bhct", u_BxHxCxT, toeplitz_HxSxT)
        y_BxHxCxT = inside + _between_chunks(u_BxHxCxT, modes, reverse)
        outputs.append(rearrange(y_BxHxCxT, "b h c t -> b h (c t)")[..., :length])
    first, second = outputs
    return first, second


def _toeplitz(k_HxT: jax.Array, reverse: bool) -> jax.Array:
    """Return (H, s, t): K[t - s] where t >= s; reversed, K[s - t] where s >= t."""
    t = jnp.arange(k_HxT.shape[-1])
    lag = t[:, None] - t[None, :] if reverse else t[None, :] - t[:, None]
    return jnp.where((lag >= 0)[None], k_HxT[:, jnp.maximum(lag, 0)], 0)


def _between_chunks(u_BxHxCxT: jax.Array, modes: Modes, reverse: bool) -> jax.Array:
    """Return what all earlier (reversed: later) chunks add to each chunk."""
    chunk = u_BxHxCxT.shape[-1]
    t = jnp.arange(chunk)
    # A chunk becomes a state, sum_j exp(rate a_j) u_j, which the next chunk reads b_i steps on:
    # the lag from position j to position i is a_j + b_i.
    a, b = (t, chunk - t) if reverse else (chunk - 1 - t, t + 1)
    summary_BxHxCxM = _matmul("bhct,hmt->bhcm", u_BxHxCxT, powers(modes, a))

    # state of a chunk = exp(rate T) state of the one before + its own, real and imaginary parts
    step_re, step_im = jnp.split(powers(modes, jnp.array([chunk]))[None, ..., 0], 2, axis=-1)

    def hand_on(state, summary):
        re, im = jnp.split(state, 2, axis=-1)
        decayed = jnp.concatenate([re * step_re - im * step_im, re * step_im + im * step_re], -1)
        return decayed + summary, state

    summary_CxBxHxM = rearrange(summary_BxHxCxM, "b h c m -> c b h m")
    zero = jnp.zeros_like(summary_CxBxHxM[0])
    _, before_CxBxHxM = jax.lax.scan(hand_on, zero, summary_CxBxHxM, reverse=reverse)
    return _matmul("cbhm,hmt->bhct", before_CxBxHxM, weighted_powers(modes, b))


def _matmul(equation: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)
