"""How far a DiffuSSM sees: its kernels, their time scales, and the reach of a whole pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffussm_jax.s4d import Modes, discretise, kernel
from diffussm_jax.ssm import DIRECTIONS


def kernels(params: Any, layer: int, length: int) -> jax.Array:
    """Return K[0:length] of both directions of one layer, (2, D, length), without the skips.

    Args:
      params: those of a `DiffuSSM`.
    """
    modes = (jax.tree.map(lambda part: part[layer], each) for each in _modes(params))
    return jnp.stack([kernel(each, length) for each in modes])


def time_scales(params: Any) -> jax.Array:
    """Return 1 / |Re(dt A)|, tokens until a state has decayed to 1/e: (layers, 2, D, N/2)."""
    return jnp.stack([-1 / modes.rate_re for modes in _modes(params)], axis=1)


def _modes(params: Any) -> list[Modes]:
    """Discretise both directions, with a leading axis of layers."""
    ssm = params["blocks"]["ssm"]
    names = ("log_dt", "log_decay", "frequency", "c")
    return [
        jax.vmap(discretise)(*(ssm[f"{direction}_{name}"] for name in names))
        for direction in DIRECTIONS
    ]


def receptive_field(
    run: Callable[[jax.Array], jax.Array], x: jax.Array, key: jax.Array, row: slice, column: slice
) -> jax.Array:
    """Return each pixel's share in the gradient of one place of the output, (H, W), sums to 1.

    The share is in (d (c . output[row, column]) / d x)^2, mean over examples, channels and a
    standard normal c for each example (arXiv 1701.04128, with squares); 0 if nothing reaches the
    output.

    Args:
      run: x (B, H, W, C) -> (B, H, W, C'), each example by itself.
    """
    output, pull_back = jax.vjp(run, x)
    part = output[:, row, column]
    cotangent = jnp.zeros_like(output)
    cotangent = cotangent.at[:, row, column].set(jax.random.normal(key, part.shape, part.dtype))
    energy = jnp.square(pull_back(cotangent)[0]).mean(axis=(0, 3))
    return energy / jnp.maximum(energy.sum(), jnp.finfo(energy.dtype).tiny)
