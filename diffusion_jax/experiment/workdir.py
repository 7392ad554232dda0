"""The run directory: the record of what was trained on which data, checked when a run continues."""

import dataclasses
import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.data.sources import Source
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.networks import find_network
from diffusion_jax.experiment.schema import default_config, flatten, network_fields
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.metrics import METRICS, SPEED, read_lines
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.training.checkpoints import check_place, kept_steps

START = "start.json"

# What may change when a run continues, besides how the network is computed; everything else must
# stay as it was. The path of the data may change, since their fingerprint tells whether they are
# still the same.
_MAY_CHANGE = (
    *("train.", "sampling.", "mesh.", "evaluation."),
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
    """Write the record of a run into its directory, or check that the one there agrees.

    Args:
      workdir: an existing folder, which the caller has locked.
      about: content of run.json, see `read_run`.
      start: content of start.json, None if the run starts from random weights.

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
    """Raise `UserError` for the address of a bucket, or a path that checkpoints cannot have."""
    check_place(workdir)
    if re.match(r"[a-z]\w*:/", str(workdir)):  # Path makes one slash of two
        raise UserError(
            f"--workdir {workdir} is no folder: mount the bucket (docs/gotchas.md), or give a "
            "folder that all hosts see"
        )


def read_workdir(workdir: Path) -> ConfigDict:
    """Read the config of a run or an export.

    A field that did not exist yet when the run began gets its default, which does what was done
    then; see `diffusion_jax.experiment.schema`.

    Raises:
      UserError: if there is no run in `workdir`, its network is not found, or its config is damaged
        or of a newer version.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir {workdir} holds no run (no config.json): train one first")
    saved = read_json(path, schemas.CONFIG)
    config = defaults_of(saved["model"])
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


def defaults_of(model: Mapping[str, Any]) -> ConfigDict:
    """Return the config of all defaults for the network of a `model` section.

    It keeps the name, the geometry, and whatever has no default from the section.
    """
    open_fields = {
        f.name for f in network_fields(model["name"]) if f.default is dataclasses.MISSING
    }
    kept = {"model.name", "model.geometry", *open_fields}
    return default_config({k: v for k, v in model.items() if f"model.{k}" in kept})


def read_data(workdir: Path) -> dict[str, Any] | None:
    """Return 'path', 'examples' and 'fingerprint' of a run's data, None before it has begun."""
    path = workdir / "data.json"
    return read_json(path, schemas.DATA) if path.exists() else None


def read_run(workdir: Path) -> dict[str, str]:
    """Return what was run last: the config's name, the command, the code and the devices.

    The keys are 'config', 'command', 'code' and 'devices'; the value of one that was not written is
    ''.
    """
    path = workdir / "run.json"
    written = read_json(path, schemas.RUN) if path.exists() else {}
    return dict.fromkeys(("config", "command", "code", "devices"), "") | written


def code_version() -> str:
    """Return the git commit of the checkout that is run, or the version of the package.

    A copy of a checkout without its history may say the commit in a file COMMIT.
    """
    root = Path(__file__).parents[2]
    if (root / "COMMIT").is_file():
        return (root / "COMMIT").read_text().strip()
    if (root / ".git").exists() and shutil.which("git"):
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(describe, cwd=root, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return importlib.metadata.version("rin-diffussm-jax")


def _check_same(workdir: Path, old: dict, new: dict) -> None:
    # A file may leave out fields of the network or of a schedule, which then have their defaults.
    defaults = json.loads(defaults_of(new["model"]).to_json())
    whole = flatten(defaults) | flatten(new)
    how = [f"model.{name}" for name in find_network(new["model"]["name"]).computed_by]
    fields = differing(flatten(old), whole, [*_MAY_CHANGE, *how], _MUST_STAY)
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
    """Describe each field in which two flat configs differ.

    Args:
      but: names that are left out; one that ends in a dot stands for its whole section.
      only: names that are described although their section is left out.
    """
    sections = tuple(name for name in but if name.endswith("."))
    return [
        f"{name} is {new.get(name)} here and {old.get(name)} there"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
        and (name in only or not (name in but or name.startswith(sections)))
    ]
