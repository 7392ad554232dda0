"""The run directory: what was run on what, written down, and compared when a run continues."""

import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.base import base
from diffusion_jax import hosts
from diffusion_jax.data.sources import Source
from diffusion_jax.errors import UserError
from diffusion_jax.files import write_atomically

START = "start.json"

# What a run may change when it continues; everything else must stay as it was. Where the data lie
# may change: that they are the same is told by their fingerprint.
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
    """Makes the run directory and writes config.json and data.json, or checks that they are these.

    Args:
      about: what run.json says, see `read_run`.
      start: what start.json says, None if the run starts from random weights.

    Raises:
      UserError: if it cannot be written, or holds a run of another config or on other data.
    """
    if ":" in str(workdir).split("/")[0]:
        raise UserError(
            f"--workdir {workdir} is no folder: mount the bucket (docs/gotchas.md), or give a "
            "folder that all hosts see"
        )
    data = {"path": config.data.path, "examples": len(source), "fingerprint": source.fingerprint()}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists():
            old, new = (json.loads(c.to_json()) for c in (read_workdir(workdir), config))
            _check_same(workdir, old, new)
        if (workdir / "data.json").exists():
            _check_same_data(workdir, json.loads((workdir / "data.json").read_text()), data)
        # start.json first: a config without it says that there was none.
        files = {
            **({START: json.dumps(start, indent=2)} if start else {}),
            "config.json": config.to_json(indent=2),
            "data.json": json.dumps(data, indent=2),
            "run.json": json.dumps(about, indent=2),
        }
        hosts.wait_for_all("compared")
        for file, text in files.items() if hosts.is_main() else ():
            write_atomically(workdir / file, lambda path, text=text: path.write_text(text + "\n"))
        hosts.wait_for_all("written")
    except OSError as error:
        raise UserError(
            f"--workdir {workdir} cannot be written ({error.strerror}): choose another"
        ) from error


def read_workdir(workdir: Path) -> ConfigDict:
    """The config of a run; what it did not have yet when the run began has its default.

    Raises:
      UserError: if there is no run in `workdir`.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir {workdir} holds no run (no config.json): train one first")
    saved = json.loads(path.read_text())
    config = base(ConfigDict(saved["model"])).unlock()
    config.update(saved)
    return config


def read_run(workdir: Path) -> dict[str, str]:
    """What was run last: 'config', the name of its file, 'command', 'code' and 'devices'.

    Each is '' where it was not written.
    """
    path = workdir / "run.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    return dict.fromkeys(("config", "command", "code", "devices"), "") | written


def code_version() -> str:
    """The git commit of the checkout that this is, or the version of the package."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists() and shutil.which("git"):
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        found = subprocess.run(describe, cwd=root, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return importlib.metadata.version("rin-diffussm-jax")


def _check_same(workdir: Path, old: dict, new: dict) -> None:
    fields = differing(flatten(old), flatten(new), _MAY_CHANGE, _MUST_STAY)
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
