"""Archives of arrays (.npz), never pickled: written whole or not at all, read whole or by rows."""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.files import write_atomically, writing
from diffusion_jax.json_files import parse_json
from diffusion_jax.schemas import Schema


def save_archive(path: Path, kind: str, about: dict[str, Any], arrays: dict) -> None:
    """Writes arrays and, as JSON in an array of characters, what they are.

    Raises:
      UserError: if `path` cannot be written.
    """

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, about=np.array(json.dumps({"kind": kind, **about})), **arrays)

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def load_archive(
    path: Path, kind: str, schema: Schema, *names: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `save_archive` wrote: (about, arrays).

    Args:
      schema: of what it is about.
      names: of arrays that it must have; it may have more.

    Raises:
      UserError: for an unreadable or incomplete file, or one of another kind.
    """
    arrays = load_arrays(path)
    text = str(arrays.pop("about", "{}"))
    about = parse_json(text, path, schema._replace(shape={"kind?": str}))
    if (found := about.pop("kind", "something else")) != kind:
        raise UserError(f"{path} holds {found}, not {kind}: {schema.advice}")
    about = parse_json(json.dumps(about), path, schema)
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}): {schema.advice}")
    return about, arrays


def load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays of any .npz, or all.

    Raises:
      UserError: for an unreadable file, or missing arrays, which it names.
    """
    with _readable(path), np.load(path) as archive:
        missing = [name for name in names if name not in archive]
        if missing:
            raise UserError(
                f"{path} has no {', '.join(missing)} among its {', '.join(archive)}: "
                "give a complete file"
            )
        return {name: archive[name] for name in names or archive}


class ArrayOnDisk:
    """One array of an .npz that is too large to hold, read by rows.

    Attributes:
      shape, dtype: as numpy's.

    Raises:
      UserError: for an unreadable file, a missing array, or one in Fortran order.
    """

    def __init__(self, path: Path, name: str):
        self._path, self._name = path, name
        with _readable(path), zipfile.ZipFile(path) as archive:
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            check_choice(f"the array of {path}", name, members)
            with archive.open(f"{name}.npy") as file:
                self.shape, fortran, self.dtype = _read_header(file)
        if fortran or self.dtype.hasobject or not self.shape:
            raise UserError(f"{path}: {name} is not an array of plain rows: save it in C order")

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Rows from `start` on, `size` at a time; the last batch may be smaller.

        Raises:
          UserError: where the file is damaged.
        """
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with (
            _readable(self._path),
            zipfile.ZipFile(self._path) as archive,
            archive.open(f"{self._name}.npy") as file,
        ):
            _read_header(file)
            file.seek(start * row_bytes, 1)
            for first in range(start, len(self), size):
                rows = min(size, len(self) - first)
                data = np.frombuffer(file.read(rows * row_bytes), self.dtype)
                yield data.reshape(rows, *self.shape[1:])


def _read_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Names the file in whatever goes wrong in reading it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no readable .npz without pickles: {error}") from error
