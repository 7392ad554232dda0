"""Exported weights: a folder of safetensors shards, the config, and where they are from.

    config.json       of the run, as in its directory
    provenance.json   which weights these are, and the SHA-256 of every shard
    model-00001-of-00003.safetensors, ..., model.safetensors.index.json

Shards and index are in Hugging Face's convention; a single shard is model.safetensors, without an
index.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from diffusion_jax.errors import UserError, check_at_least, check_choice
from diffusion_jax.parallel.axes import facts
from diffusion_jax.storage.files import publish, sha256, writing
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.locks import lock_path
from diffusion_jax.storage.schemas import PROVENANCE as SCHEMA
from diffusion_jax.storage.tensors import check_tensors, read_tensors
from diffusion_jax.storage.untrusted import check_memory, inside

PROVENANCE = "provenance.json"
DTYPES = ("float32", "bfloat16")


class Export(NamedTuple):
    """Content of an exported folder.

    Attributes:
      tensors: arrays by name.
      provenance: content of provenance.json.
    """

    tensors: dict[str, np.ndarray]
    provenance: dict[str, Any]


def to_tensors(params: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a parameter tree by their paths, joined by dots."""
    flat = traverse_util.flatten_dict(params, sep=".")
    return {name: np.asarray(value) for name, value in flat.items()}


def exact_names(declared: Any) -> set[str]:
    """Return the names of the tensors that a network declares to be kept in float32.

    Args:
      declared: see `diffusion_jax.parallel.axes.declarations`.
    """
    flat = traverse_util.flatten_dict(facts(declared, "exact"), sep=".")
    return {name for name, is_exact in flat.items() if is_exact}


def to_params(tensors: Mapping[str, np.ndarray], shapes: Any) -> dict[str, Any]:
    """Return the parameter tree of a network; the inverse of `to_tensors`.

    Args:
      tensors: float32 or bfloat16 arrays by name.
      shapes: the network's parameter tree, of arrays or their shapes; the result has its dtypes.

    Raises:
      UserError: naming the first tensor that is missing, left over, or of another shape or dtype.
    """
    wanted = traverse_util.flatten_dict(shapes, sep=".")
    check_tensors(tensors, {name: leaf.shape for name, leaf in wanted.items()}, "network", DTYPES)
    params = {name: tensors[name].astype(leaf.dtype) for name, leaf in wanted.items()}
    return traverse_util.unflatten_dict(params, sep=".")


def check_new(out: Path) -> None:
    """Raise `UserError` if there is something at `out` already."""
    if os.path.lexists(out):  # a link to nothing, too
        raise UserError(f"--out {out} is there already: choose another, or remove it")


def write_export(
    out: Path,
    tensors: Mapping[str, np.ndarray],
    config: str,
    provenance: Mapping[str, Any],
    dtype: str = "float32",
    shard_size: int = 2**31,
    exact: Collection[str] = (),
) -> None:
    """Write an exported folder, whole or not at all.

    Args:
      tensors: float32 arrays by name.
      config: the text of config.json.
      provenance: content of provenance.json, without the dtype and the shards.
      dtype: 'float32', or 'bfloat16' to round once to the nearest.
      shard_size: largest number of bytes of tensors in a file; a larger tensor has its own file.
      exact: names of tensors that stay float32 whatever `dtype` is, see `exact_names`.

    Raises:
      UserError: if there is something at `out` already, or it cannot be written.
    """
    check_choice("--dtype", dtype, DTYPES)
    check_at_least("--shard_size", shard_size, 1)
    check_new(out)
    dtypes = {n: "float32" if n in exact else dtype for n in tensors}
    sizes = {n: value.size * jnp.dtype(dtypes[n]).itemsize for n, value in tensors.items()}
    shards = _name_files(_split(sizes, shard_size))
    partial = out.with_name(out.name + ".partial")
    with lock_path(out), writing(out):
        shutil.rmtree(partial, ignore_errors=True)  # of a command that was killed
        partial.mkdir()
        (partial / "config.json").write_text(config)
        for file, names in shards.items():
            cast = {n: tensors[n].astype(jnp.dtype(dtypes[n]), order="C") for n in names}
            # Hugging Face's loaders refuse any format but "pt", whatever the tensors are from.
            save_file(cast, partial / file, metadata={"format": "pt"})
            shutil.copymode(partial / "config.json", partial / file)  # it is its owner's alone
        if len(shards) > 1:
            where = {name: file for file, names in shards.items() for name in names}
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
            write_json(partial / "model.safetensors.index.json", index)
        hashes = {file: sha256(partial / file) for file in shards}
        write_json(partial / PROVENANCE, {**provenance, "dtype": dtype, "shards": hashes})
        publish(partial, out)


def read_export(folder: Path) -> Export:
    """Read an exported folder, and verify the SHA-256 of its shards.

    Raises:
      UserError: for another folder, or naming the shard that is missing or not what was written.
    """
    provenance, tensors = read_provenance(folder), {}
    for file, written in provenance["shards"].items():
        path = folder / file
        if not path.is_file():
            raise UserError(f"{folder} lacks {file}: copy the folder anew")
        check_memory(path, path.stat().st_size, "the file")
        if (found := sha256(path)) != written:
            raise UserError(
                f"{path} is not what was exported: its SHA-256 is {found[:12]}..., and {PROVENANCE}"
                f" has {written[:12]}...: copy the folder anew"
            )
        tensors |= read_tensors(path, ".safetensors")
    return Export(tensors, provenance)


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an export, and not a run."""
    return (folder / PROVENANCE).is_file()


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read the provenance.json of a folder.

    Raises:
      UserError: for a folder that holds no exported weights.
    """
    if not is_export(folder):
        raise UserError(
            f"{folder} holds no exported weights (no {PROVENANCE}): give a folder that "
            "launch.export wrote"
        )
    provenance = read_json(folder / PROVENANCE, SCHEMA)
    for file in provenance["shards"] or [""]:
        inside(folder, file, folder / PROVENANCE)
        if not file.endswith(".safetensors"):
            raise UserError(
                f"{folder / PROVENANCE} is damaged ({file!r} is no shard): {SCHEMA.advice}"
            )
    return provenance


def fingerprint(provenance: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the SHA-256s of all shards, which identifies exported weights."""
    return hashlib.sha256("".join(provenance["shards"].values()).encode()).hexdigest()


def _split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Split names in their order, wherever the next tensor would make a part too large."""
    parts, room = [], 0
    for name, size in sizes.items():
        if not parts or size > room:
            parts.append([])
            room = limit
        parts[-1].append(name)
        room -= size
    return parts


def _name_files(parts: list[list[str]]) -> dict[str, list[str]]:
    if len(parts) == 1:
        return {"model.safetensors": parts[0]}
    return {
        f"model-{number:05d}-of-{len(parts):05d}.safetensors": names
        for number, names in enumerate(parts, start=1)
    }
