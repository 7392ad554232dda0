"""Residual blocks and the attention between them; norms in float32, the rest in `dtype`."""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn


def group_norm(x: jax.Array, groups: int, name: str) -> jax.Array:
    """Normalise (B, h, w, C) by groups in float32, epsilon 1e-6. Call it in a compact method."""
    # Fast variances, E[x^2] - E[x]^2, cancel where a mean is large beside its spread.
    norm = nn.GroupNorm(groups, epsilon=1e-6, use_fast_variance=False, name=name)
    return norm(x.astype(jnp.float32))


class ResidualBlock(nn.Module):
    """(B, h, w, C) -> (B, h, w, channels)."""

    channels: int
    groups: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x
        for i in (1, 2):
            h = nn.silu(group_norm(h, self.groups, f"norm{i}"))
            h = nn.Conv(self.channels, (3, 3), dtype=self.dtype, name=f"conv{i}")(h)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), dtype=self.dtype, name="shortcut")(x)
        return x + h


class Attention(nn.Module):
    """(B, h, w, C) -> the same: every position attends to all, with one head of C channels."""

    groups: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        h = rearrange(group_norm(x, self.groups, "norm"), "b h w c -> b (h w) c")
        query, key, value = (
            nn.Dense(channels, dtype=self.dtype, name=name)(h) for name in ("query", "key", "value")
        )
        logits = jnp.einsum("bqc,bkc->bqk", query, key, preferred_element_type=jnp.float32)
        weights = nn.softmax(logits / math.sqrt(channels)).astype(self.dtype)
        h = jnp.einsum("bqk,bkc->bqc", weights, value)
        h = nn.Dense(channels, dtype=self.dtype, name="out")(h)
        return x + rearrange(h, "b (h w) c -> b h w c", h=x.shape[1])


class Middle(nn.Module):
    """(B, h, w, C) -> the same, at the lowest resolution: block, attention if asked for, block."""

    groups: int
    attention: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ResidualBlock(x.shape[-1], self.groups, self.dtype, name="block_0")(x)
        if self.attention:
            x = Attention(self.groups, self.dtype, name="attention")(x)
        return ResidualBlock(x.shape[-1], self.groups, self.dtype, name="block_1")(x)
