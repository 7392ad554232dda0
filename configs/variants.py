"""Variants of a config, and presets of a file, by names after a colon: rin/cifar10:bf16,2h."""

from typing import Any, TypeVar

from ml_collections import ConfigDict

from diffusion_jax.errors import UserError

T = TypeVar("T")
Changes = dict[str, Any]  # value by field, as {'train.steps': 100}


def vary(config: ConfigDict, chosen: str, variants: dict[str, Changes]) -> ConfigDict:
    """Make the changes of the variants in `chosen`, as 'bf16,2h', '' for none.

    Raises:
      UserError: for an unknown one, or two of one field.
    """
    made: Changes = {}
    for name in filter(None, chosen.split(",")):
        if name not in variants:
            raise UserError(f"{name!r} is no variant: choose from {', '.join(variants)}")
        if twice := sorted(made.keys() & variants[name]):
            raise UserError(f"two of {chosen!r} set {twice[0]}: choose one of them")
        made |= variants[name]
    config.update_from_flattened_dict(made)
    return config


def shorter(config: ConfigDict, steps: int) -> Changes:
    """Return the changes that train for `steps`.

    There are 10 checkpoints and 5 grids; warm-up and the width of the EMA stay in proportion.
    """
    part = steps / config.train.steps
    return {
        "train.steps": steps,
        "train.checkpoint_every": steps // 10,
        "train.grid_every": steps // 5,
        "optimizer.warmup_steps": round(part * config.optimizer.warmup_steps),
        "ema_decay": round(1 - (1 - config.ema_decay) / part, 6),
    }


def choose(name: str, presets: dict[str, T]) -> T:
    """Return the preset of this name.

    Raises:
      UserError: for no name, or an unknown one.
    """
    if name not in presets:
        wrong = f"{name!r} is no preset" if name else "this file has presets"
        raise UserError(f"{wrong}: choose one after the colon, of {', '.join(presets)}")
    return presets[name]


def file_of(name: str) -> str:
    """Return 'rin/cifar10' of 'rin/cifar10:bf16,2h': what has a row in a paper."""
    return name.partition(":")[0]
