"""Read the manifest of a data set that we prepared: what is in which file, and its hash."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diffusion_jax.autoencoder.scaling import Scaling, check_scaling
from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.json_files import read_json
from diffusion_jax.storage.untrusted import inside

MANIFEST = "manifest.json"
UNFINISHED = "unfinished"  # the folder of a preparation that goes on, or was stopped
AGAIN = "delete it and give the launch.prepare command of this directory again: it makes it anew"


def read_manifest(directory: Path) -> dict | None:
    """Return the manifest, or None in a directory that has none.

    Raises:
      UserError: if a preparation was stopped here, or as `load_manifest`.
    """
    if (directory / MANIFEST).is_file():
        return load_manifest(directory)
    if (directory / UNFINISHED).is_dir():
        raise UserError(
            f"{directory}: its preparation was stopped: give the same launch.prepare command again"
        )
    return None


def load_manifest(directory: Path) -> dict:
    """Return the manifest of a directory that has one.

    Raises:
      UserError: if the file is damaged or names a file that is not in the directory.
    """
    path = directory / MANIFEST
    manifest = read_json(path, schemas.MANIFEST)
    for file in (*(shard["file"] for shard in shards_of(manifest)), *manifest["metadata"]):
        inside(directory, file, path)
    return manifest


def shards_of(manifest: dict) -> Iterator[dict]:
    """Yield the entry of every shard: 'file', 'records', 'bytes', 'sha256', 'skipped'."""
    for split in manifest["splits"].values():
        yield from split["shards"]


def check_sizes(directory: Path, manifest: dict) -> None:
    """Raise `UserError` for a shard that is missing, or not of the size that was written."""
    for shard in shards_of(manifest):
        path = directory / shard["file"]
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing: copy it here, or {AGAIN}")
        if (size := path.stat().st_size) != shard["bytes"]:
            written = shard["bytes"]
            raise UserError(f"{path}: {size} bytes, not {written}: copy it again, or {AGAIN}")


def recorded_scaling(directory: Path, manifest: dict | None) -> Scaling | None:
    """Return the scaling of latents that `launch.encode_latents` recorded with their moments.

    Returns:
      None without a manifest, and for the moments of Stable Diffusion's own autoencoders, and of
      any that were encoded before their scaling was recorded.

    Raises:
      UserError: for a record that is damaged.
    """
    request = (manifest or {}).get("request", {})
    recorded = [request.get(f"source.{name}") for name in Scaling._fields]
    if recorded == [None, None]:
        return None
    return check_scaling(f"{directory / MANIFEST}", *recorded)


def verify(directory: Path) -> int:
    """Compare all files with the SHA-256 that they had when they were written.

    Returns:
      The number of files.

    Raises:
      UserError: naming the files that are damaged or missing, or that there are no hashes.
    """
    directory = Path(directory)
    if (manifest := read_manifest(directory)) is None:
        raise UserError(f"{directory}: no {MANIFEST}: only what launch.prepare wrote has hashes")
    check_sizes(directory, manifest)
    expected = {shard["file"]: shard["sha256"] for shard in shards_of(manifest)}
    expected |= manifest["metadata"]
    missing = [file for file in expected if not (directory / file).is_file()]
    if missing:
        raise UserError(f"{directory}: missing: {', '.join(missing)}: copy it here, or {AGAIN}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(sha256, [directory / file for file in expected])
        damaged = [
            file for file, hash in zip(expected, found, strict=True) if hash != expected[file]
        ]
    if damaged:
        raise UserError(f"{directory}: damaged: {', '.join(damaged)}: copy it again, or {AGAIN}")
    return len(expected)
