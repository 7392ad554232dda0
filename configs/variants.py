"""Variants of a config, named after a colon: --config=configs/rin/cifar10.py:bf16,2h."""

from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.errors import UserError

Changes = dict[str, Any]  # value by field, as {'train.steps': 100}


def vary(config: ConfigDict, chosen: str, variants: dict[str, Changes]) -> ConfigDict:
    """Makes the changes of the variants in `chosen`, as 'bf16,2h', '' for none.

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
    """Training for `steps`, with 10 checkpoints, 5 grids, warm-up and the EMA in proportion."""
    part = steps / config.train.steps
    return {
        "train.steps": steps,
        "train.checkpoint_every": steps // 10,
        "train.grid_every": steps // 5,
        "optimizer.warmup_steps": round(part * config.optimizer.warmup_steps),
        "ema_decay": round(1 - (1 - config.ema_decay) / part, 6),
    }


def file_of(name: str) -> str:
    """'rin/cifar10' of 'rin/cifar10:bf16,2h': what has a file, and a row in a paper."""
    return name.partition(":")[0]
