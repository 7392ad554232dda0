"""Layers of one shape as one scan: compiled once, rematerialised by policy."""

import re
from collections.abc import Callable

import jax
from flax import linen as nn

REMAT = ("none", "dots", "full")

# What stacks are called in parameter trees; the leading axes of what is below count layers.
_STACKED = re.compile(r"^(blocks|process)(_\d+)?$")


def stack(layer: Callable, length: int, remat: str, unroll: bool) -> Callable:
    """`length` layers of one shape as a scan: parameters get a leading layer axis.

    The layer, a module class or a function of (module, state, shared), gives (state, None).

    Args:
      remat: 'none' keeps every activation, 'dots' the results of matmuls without a batch axis,
        'full' nothing but each layer's input.
      unroll: compiles each layer by itself; the parameters are stacked all the same.
    """
    if remat != "none":
        policy = (
            jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
        )
        layer = nn.remat(layer, policy=policy, prevent_cse=False)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=length,
        unroll=length if unroll else 1,
    )


def layer_axes(path: tuple) -> int:
    """How many leading axes of the parameter at a tree path count layers: one per nested stack."""
    return sum(bool(_STACKED.match(name)) for name in names(path))


def names(path: tuple) -> list[str]:
    """The keys and attributes of a tree path."""
    return [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]
