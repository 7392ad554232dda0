"""Files that are there whole or not at all."""

from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a path beside `path`, then renames: a kill leaves the old or the new."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.rename(path)
