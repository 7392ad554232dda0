"""The bidirectional long convolution, in three forms that agree.

    forward[t] = sum_{s <= t} K_f[t - s] u[s]          backward[t] = sum_{s >= t} K_b[s - t] u[s]

A skip D u is part of it, as D added to K[0]: no pass over the sequence of its own. All take u as
(B, H, L), or as a pair of them, one for each direction. Nothing is flipped, and a shared u is
transformed once.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from diffusion_jax.parallel.sharding import BATCH, platform, shard_map
from diffussm_jax.s4d import Modes, kernel, powers, weighted_powers

FORMS = ("auto", "fft", "chunked")
CHUNK = 128

Input = jax.Array | tuple[jax.Array, jax.Array]


def convolve(
    u: Input, forward: Modes, backward: Modes, skip: jax.Array, form: str
) -> tuple[jax.Array, jax.Array]:
    """Each device convolves its own examples and channels, over the whole length.

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
    """What 'auto' stands for.

    Timed on CPU (docs/long_sequences.md): FFT is faster up to 8,192 positions at least, and further
    where there is more than one narrow example. Not timed: on TPU an FFT does not use the matrix
    units, and chunks, all matmuls, are chosen where there is more than one.
    """
    return "chunked" if platform == "tpu" and length > CHUNK else "fft"


def convolve_fft(u: Input, forward: jax.Array, backward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By FFT: the backward direction multiplies by the conjugate spectrum.

    Args:
      u: (B, H, L) float32 or wider, or a pair of them.
      forward, backward: (H, L) kernels, or (1, L) to share one over the channels.

    Returns:
      (forward, backward), each (B, H, L).
    """
    length = forward.shape[-1]
    padded = 2 ** (2 * length - 1).bit_length()
    spectra = jax.tree.map(lambda u: jnp.fft.rfft(u, padded), u)
    k_forward = jnp.fft.rfft(forward, padded)[None]
    k_backward = jnp.conj(jnp.fft.rfft(backward, padded))[None]
    return tuple(
        jnp.fft.irfft(spectrum * k, padded)[..., :length]
        for spectrum, k in zip(_each(spectra), (k_forward, k_backward), strict=True)
    )


def _with_skip(modes: Modes, skip_H: jax.Array, length: int) -> jax.Array:
    """K[0:length], (H, length), with the skip in K[0]."""
    return kernel(modes, length).at[:, 0].add(skip_H)


def _each(u: Input) -> tuple[jax.Array, jax.Array]:
    """What the forward, and what the backward direction sees."""
    return u if isinstance(u, tuple) else (u, u)


def convolve_chunked(
    u: Input, forward: Modes, backward: Modes, skip: jax.Array, chunk: int = CHUNK
) -> tuple[jax.Array, jax.Array]:
    """By matmuls: Toeplitz inside a chunk, a carried state between chunks.

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
    for u_BHL, modes, skip_H, reverse in directions:
        batch, channels, length = u_BHL.shape
        chunk = min(chunk, length)
        count = -(-length // chunk)
        padded = jnp.pad(u_BHL, ((0, 0), (0, 0), (0, count * chunk - length)))
        u_BHCT = padded.reshape(batch, channels, count, chunk)
        toeplitz_HTT = _toeplitz(_with_skip(modes, skip_H, chunk), reverse)
        inside = _matmul("bhcs,hst->bhct", u_BHCT, toeplitz_HTT)
        y = inside + _between_chunks(u_BHCT, modes, reverse)
        outputs.append(y.reshape(batch, channels, -1)[..., :length])
    return tuple(outputs)


def _toeplitz(k_HT: jax.Array, reverse: bool) -> jax.Array:
    """(H, s, t): K[t - s] where t >= s; reversed, K[s - t] where s >= t."""
    size = k_HT.shape[-1]
    lag = jnp.arange(size)[None, :] - jnp.arange(size)[:, None]
    lag = -lag if reverse else lag
    return jnp.where((lag >= 0)[None], k_HT[:, jnp.maximum(lag, 0)], 0)


def _between_chunks(u_BHCT: jax.Array, modes: Modes, reverse: bool) -> jax.Array:
    """What all earlier (reversed: later) chunks add to each chunk."""
    chunk = u_BHCT.shape[-1]
    position = jnp.arange(chunk)
    # A chunk becomes sum_j exp(rate a_j) u_j, and is read b_i steps on: a_j + b_i is the lag.
    written, read = (
        (position, chunk - position) if reverse else (chunk - 1 - position, position + 1)
    )
    summary_BHCM = _matmul("bhct,hmt->bhcm", u_BHCT, powers(modes, written))

    step_re, step_im = jnp.split(powers(modes, jnp.array([chunk]))[None, ..., 0], 2, axis=-1)

    def hand_on(state, summary):
        re, im = jnp.split(state, 2, axis=-1)
        decayed = jnp.concatenate([re * step_re - im * step_im, re * step_im + im * step_re], -1)
        return decayed + summary, state

    zero = jnp.zeros_like(summary_BHCM[:, :, 0])
    _, before_CBHM = jax.lax.scan(hand_on, zero, jnp.moveaxis(summary_BHCM, 2, 0), reverse=reverse)
    return _matmul("cbhm,hmt->bhct", before_CBHM, weighted_powers(modes, read))


def _matmul(equation: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)


def convolve_recurrent(
    u: Input, forward: Modes, backward: Modes, skip: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """By the recurrence x = exp(rate) x + u, y = Re(weight x) + D u: slow, the others' oracle.

    Args:
      u: (B, H, L), or a pair of them.
      forward, backward: modes of shape (H, M).
      skip: (2, H).

    Returns:
      (forward, backward), each (B, H, L).
    """
    outputs = []
    directions = zip(_each(u), (forward, backward), skip, (False, True), strict=True)
    for u_BHL, modes, skip_H, reverse in directions:
        decay = jnp.exp(jax.lax.complex(modes.rate_re, modes.rate_im))[None]
        weight = jax.lax.complex(modes.weight_re, modes.weight_im)[None]

        def step(state, u_BH, decay=decay, weight=weight):
            state = decay * state + u_BH[..., None].astype(state.dtype)
            return state, (weight * state).real.sum(-1)

        zero = jnp.zeros((*u_BHL.shape[:2], modes.rate_re.shape[-1]), decay.dtype)
        _, y_LBH = jax.lax.scan(step, zero, jnp.moveaxis(u_BHL, 2, 0), reverse=reverse)
        outputs.append(jnp.moveaxis(y_LBH, 0, 2) + skip_H[None, :, None] * u_BHL)
    return tuple(outputs)
