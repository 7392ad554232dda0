"""What a RIN reads and remembers: its read attention, and how its latents move between passes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import reduce

from diffusion_jax.denoiser import Condition, NoiseLevel
from rin_jax.model import RIN


class Inside(NamedTuple):
    """What one pass computes on its way.

    Attributes:
      read: (blocks, B, M, S) float32 or wider, the share of each token in what each latent reads,
        mean over the heads; sums to 1 over S. The data's tokens come first.
      latents_before: (B, M, D) float32 or wider, before the first block, with what was carried.
      latents_after: (blocks, B, M, D), after each block.
    """

    read: jax.Array
    latents_before: jax.Array
    latents_after: jax.Array

    @property
    def latents(self) -> jax.Array:
        """(B, M, D) after the last block."""
        return self.latents_after[-1]


def look_inside(
    model: RIN,
    params: Any,
    x_t: jax.Array,
    noise: NoiseLevel,
    condition: Condition,
    carry: dict[str, jax.Array],
) -> Inside:
    """Run one pass, with the arguments of `RIN`, and return what it computes on its way."""
    _, state = model.clone(attention="einsum").apply(  # the form that knows its weights
        {"params": params}, x_t, noise, condition, carry, mutable=["intermediates"]
    )
    sown = state["intermediates"]
    runs = sum(name.startswith("blocks_") for name in sown)
    weights = [sown[f"blocks_{i}"]["read"]["attention"]["weights"][0] for i in range(runs)]
    before = sown["initial_latents"][0].astype(model.param_dtype)
    after = jnp.concatenate([sown[f"blocks_{i}"]["latents"][0] for i in range(runs)])
    return Inside(jnp.concatenate(weights).mean(axis=2), before, after.astype(model.param_dtype))


def read_maps(read: jax.Array, tokens: int) -> jax.Array:
    """Average over latents what they read of the first tokens: (..., M, S) -> (..., tokens).

    In multiples of an even share: 1 everywhere where all tokens are read alike.
    """
    return read.mean(axis=-2)[..., :tokens] * read.shape[-1]


def spread(shares: jax.Array) -> jax.Array:
    """Return the effective number of tokens read, exp(entropy), over all: (..., N) -> (...).

    1 where all are read alike, 1/N where one alone is read. Shares need not sum to 1.
    """
    p = shares / shares.sum(axis=-1, keepdims=True)
    entropy = jax.scipy.special.entr(p).sum(axis=-1)
    return jnp.exp(entropy) / p.shape[-1]


def detail(images: jax.Array, patch_size: int) -> jax.Array:
    """Return the mean gradient of brightness in each patch: (B, H, W, C) -> (B, N)."""
    down, right = jnp.gradient(images.mean(axis=-1), axis=(1, 2))
    length = jnp.sqrt(jnp.square(down) + jnp.square(right))
    p = patch_size
    return reduce(length, "b (h p) (w q) -> b (h w)", "mean", p=p, q=p)


def correlation(maps: jax.Array, values: jax.Array) -> jax.Array:
    """Return Pearson's correlation, over N tokens, of every map with every example's values.

    (..., N), (B, N) -> (..., B); 0 where either is constant.
    """
    maps, values = (part - part.mean(axis=-1, keepdims=True) for part in (maps, values))
    lengths = (jnp.linalg.norm(part, axis=-1) for part in (maps, values))
    size = jnp.einsum("...,b->...b", *lengths)
    product = jnp.einsum("...n,bn->...b", maps, values)
    return jnp.where(size > 0, product / jnp.where(size > 0, size, 1), 0)


def drift(before: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return |after - before| / |after| and cos(after, before), over all numbers of all latents.

    (..., M, D) -> two of (...).
    """
    axes = (-2, -1)
    lengths = [jnp.linalg.norm(z, axis=axes) for z in (before, after)]
    change = jnp.linalg.norm(after - before, axis=axes) / lengths[1]
    return change, (before * after).sum(axis=axes) / (lengths[0] * lengths[1])


def statistics(latents: jax.Array) -> dict[str, jax.Array]:
    """Return statistics over all numbers of all latents, (..., M, D) -> four of (...).

    They are 'mean', 'std', 'norm', the Euclidean length, and 'max' of the absolute values.
    """
    axes = (-2, -1)
    return {
        "mean": latents.mean(axis=axes),
        "std": latents.std(axis=axes),
        "norm": jnp.linalg.norm(latents, axis=axes),
        "max": jnp.abs(latents).max(axis=axes),
    }
