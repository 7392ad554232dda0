"""Runs on the digits that compile in seconds."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from configs.diffussm import digits as diffussm_digits
from configs.rin import digits

RIN = {
    "model.num_latents": 4,
    "model.process_layers": (1,),
    "model.latent_dim": 16,
    "model.latent_heads": 2,
    "model.latent_mlp_ratio": 1,
    "model.interface_dim": 8,
    "model.interface_mlp_ratio": 1,
    "model.read_write_heads": 2,
    "model.geometry.patch_size": 4,
    "objective.label_dropout": 0.1,
}
SHORT = {
    "optimizer.warmup_steps": 0,
    "optimizer.decay": "constant",
    "train.steps": 6,
    "train.batch_size": 16,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
    "train.keep_checkpoints": 2,
    "train.grid_every": 0,
    "sampling.steps": 3,
}
DIFFUSSM = {
    "model.dim": 16,
    "model.layers": 2,
    "model.state_size": 4,
    "objective.prediction": "v",
    "ema_decay": 0.5,
}


def config(**changes) -> ConfigDict:
    """RIN's digits config made tiny; changes are written as train__steps=3."""
    return _changed(digits.get_config(), RIN | SHORT, changes)


def diffussm(**changes) -> ConfigDict:
    """DiffuSSM's digits config made tiny."""
    return _changed(diffussm_digits.get_config(), DIFFUSSM | SHORT, changes)


def _changed(made: ConfigDict, overrides: dict, changes: dict) -> ConfigDict:
    made.update_from_flattened_dict(overrides)
    made.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return made


def flags() -> list[str]:
    """The same as `config()`, as command-line flags."""
    changes = [f"--config.{name}={value}" for name, value in (RIN | SHORT).items()]
    return ["--config=configs/rin/digits.py", *changes]


def diffussm_flags() -> list[str]:
    """The same as `diffussm()`, as command-line flags."""
    changes = [f"--config.{name}={value}" for name, value in (DIFFUSSM | SHORT).items()]
    return ["--config=configs/diffussm/digits.py", *changes]


def curve(workdir: Path) -> list[dict]:
    """All records of a run."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir: Path) -> list[float]:
    """The loss of every record."""
    return [record["loss"] for record in curve(workdir)]
