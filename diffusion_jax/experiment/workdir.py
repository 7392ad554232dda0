"""The run directory: what was run on what, written down, and compared when a run continues."""

import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.base import base, diffussm, rin
from diffusion_jax.data.sources import Source
from diffusion_jax.errors import UserError
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.metrics import METRICS, SPEED, read_lines
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.training.checkpoints import check_place, kept_steps

START = "start.json"
DEFAULTS = {"rin": rin, "diffussm": diffussm}  # of the section `model`, by its name

# Fields of the model that decide how it is computed, and nothing but rounding of what.
HOW = ("remat", "form", "attention", "unroll")

# What a run may change when it continues; everything else must stay as it was. Where the data lie
# may change: that they are the same is told by their fingerprint.
_MAY_CHANGE = (
    *("train.", "sampling.", "mesh.", "evaluation."),
    *(f"model.{name}" for name in HOW),
    *("data.path", "autoencoder.weights", "posthoc_ema.every"),
)
_MUST_STAY = ("train.batch_size", "train.accumulate")


def open_workdir(
    workdir: Path,
    config: ConfigDict,
    source: Source,
    about: dict[str, str],
    start: dict[str, Any] | None = None,
) -> None:
    """Writes config.json and data.json into a run directory, or checks that they are these.

    Args:
      workdir: is there, and locked.
      about: what run.json says, see `read_run`.
      start: what start.json says, None if the run starts from random weights.

    Raises:
      UserError: if it cannot be written, is damaged, holds a run of another config or on other
        data, or one that has taken more steps than it is to.
    """
    data = {"path": config.data.path, "examples": len(source), "fingerprint": source.fingerprint()}
    new = json.loads(config.to_json())
    if (workdir / "config.json").exists():
        _check_same(workdir, json.loads(read_workdir(workdir).to_json()), new)
    if before := read_data(workdir):
        _check_same_data(workdir, before, data)
    latest = max(kept_steps(workdir / "checkpoints"), default=0)
    if latest > config.train.steps:
        raise UserError(
            f"config.train.steps is {config.train.steps}, and the run in --workdir {workdir} is at "
            f"step {latest}: give more steps, or choose another directory"
        )
    for name in (METRICS, SPEED):
        read_lines(workdir / name)  # which must be whole to be continued
    # start.json first: a config without it says that there was none.
    files = {START: start} if start else {}
    files |= {"config.json": new, "data.json": data, "run.json": about}
    hosts.wait_for_all("compared")
    for file, content in files.items() if hosts.is_main() else ():
        write_json(workdir / file, content)
    hosts.wait_for_all("written")


def check_is_folder(workdir: Path) -> None:
    """Raises `UserError` for the address of a bucket, or a path that checkpoints cannot have."""
    check_place(workdir)
    if re.match(r"[a-z]\w*:/", str(workdir)):  # Path makes one slash of two
        raise UserError(
            f"--workdir {workdir} is no folder: mount the bucket (docs/gotchas.md), or give a "
            "folder that all hosts see"
        )


def read_workdir(workdir: Path) -> ConfigDict:
    """Returns the config of a run, or of an export.

    A field that it did not have yet when the run began has its default, which is what was done
    then: see `configs.base`.

    Raises:
      UserError: if there is no run in `workdir`, or its config is damaged or of a newer version.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir {workdir} holds no run (no config.json): train one first")
    saved = read_json(path, schemas.CONFIG)
    config = default_config(saved["model"])
    defaults = json.loads(config.to_json())
    if found := schemas.fault(saved, schemas.shape_like(defaults)):
        raise UserError(f"{path} is damaged ({found}): {schemas.CONFIG.advice}")
    if unknown := sorted(flatten(saved).keys() - flatten(defaults).keys()):
        raise UserError(
            f"{path} has {unknown[0]}, which this version does not know: use the version that "
            "wrote it"
        )
    config.update(saved)
    return config


def default_config(model: dict[str, Any]) -> ConfigDict:
    """Returns the defaults beside a `model` section, of which it has the name and the geometry.

    A network of somebody else's has no defaults but what the section says.
    """
    if model["name"] not in DEFAULTS:
        return base(ConfigDict(model))
    config = base(DEFAULTS[model["name"]]())
    with config.unlocked():  # the fields of a geometry are those of its kind
        config.model.geometry = ConfigDict(model["geometry"])
    return config


def read_data(workdir: Path) -> dict[str, Any] | None:
    """Returns 'path', 'examples' and 'fingerprint' of a run's data, None where it has not begun."""
    path = workdir / "data.json"
    return read_json(path, schemas.DATA) if path.exists() else None


def read_run(workdir: Path) -> dict[str, str]:
    """What was run last: 'config', the name of its file, 'command', 'code' and 'devices'.

    Each is '' where it was not written.
    """
    path = workdir / "run.json"
    written = read_json(path, schemas.RUN) if path.exists() else {}
    return dict.fromkeys(("config", "command", "code", "devices"), "") | written


def code_version() -> str:
    """The git commit of the checkout that this is, or the version of the package."""
    root = Path(__file__).parents[2]
    if (root / ".git").exists() and shutil.which("git"):
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(describe, cwd=root, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return importlib.metadata.version("rin-diffussm-jax")


def _check_same(workdir: Path, old: dict, new: dict) -> None:
    # A file may leave out fields of the network or of a schedule, which then have their defaults.
    defaults = json.loads(default_config(new["model"]).to_json())
    whole = flatten(defaults) | flatten(new)
    fields = differing(flatten(old), whole, _MAY_CHANGE, _MUST_STAY)
    if fields:
        raise UserError(
            f"--workdir {workdir} holds a run of another config ({'; '.join(fields[:4])}): "
            "choose another directory, or go back to its config"
        )


def _check_same_data(workdir: Path, old: dict, new: dict) -> None:
    if old["fingerprint"] != new["fingerprint"]:
        there, here = (
            f"{data['path'] or 'data'} ({data['examples']} examples, {data['fingerprint'][:12]})"
            for data in (old, new)
        )
        raise UserError(
            f"--workdir {workdir} holds a run on other data, {there}, and config.data is {here}: "
            "choose another directory, or go back to its data"
        )


def differing(old: dict, new: dict, but: Sequence[str] = (), only: Sequence[str] = ()) -> list[str]:
    """What differs between flat configs, in words.

    Args:
      but: beginnings of names that may differ.
      only: names that may not, although they begin so.
    """
    return [
        f"{name} is {new.get(name)} here and {old.get(name)} there"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name) and (not name.startswith(tuple(but)) or name in only)
    ]


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """{'train.steps': value} of a config's sections."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
