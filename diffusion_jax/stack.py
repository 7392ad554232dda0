"""Layers of one shape as one scan: compiled once, rematerialised by policy."""

from collections.abc import Callable

import jax
from flax import linen as nn

from diffusion_jax.parallel.axes import LAYERS, boxed

REMAT = ("none", "dots", "full")


def stack(layer: Callable, length: int, remat: str, unroll: bool) -> Callable:
    """Return a scan over `length` layers of one shape, whose parameters have an axis of layers.

    Args:
      layer: a module class, or a function of (module, state, shared), that gives (state, None).
      remat: 'none' keeps every activation, 'dots' the results of matmuls without a batch axis,
        'full' nothing but each layer's input.
      unroll: compiles each layer by itself; the parameters are stacked all the same.
    """
    # A box takes the axis of layers from the scan, so parameters that are not declared get one.
    layer = nn.map_variables(layer, "params", trans_out_fn=boxed, mutable=True)
    if remat != "none":
        policy = (
            jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
        )
        # A scan keeps XLA from merging the recomputation with the forward pass: no CSE barriers.
        layer = nn.remat(layer, policy=policy, prevent_cse=False)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=length,
        unroll=length if unroll else 1,
        metadata_params={nn.PARTITION_NAME: LAYERS},
    )
