"""Files that are there whole or not at all, and what tells them apart."""

import hashlib
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a path beside `path`, then renames: a kill leaves the old or the new."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.rename(path)


def sha256(path: str | Path) -> str:
    """Of the bytes of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
