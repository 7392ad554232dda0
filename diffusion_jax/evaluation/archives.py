"""Archives of arrays (.npz), never pickled: written whole or not at all, read whole or by rows."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import write_atomically, writing
from diffusion_jax.storage.json_files import parse_json
from diffusion_jax.storage.npz import open_array, read_arrays
from diffusion_jax.storage.schemas import Schema
from diffusion_jax.storage.untrusted import check_memory


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
    arrays = read_arrays(path)
    text = str(arrays.pop("about", "{}"))
    about = parse_json(text, path, schema._replace(shape={"kind?": str}))
    if (found := about.pop("kind", "something else")) != kind:
        raise UserError(f"{path} holds {found}, not {kind}: {schema.advice}")
    about = parse_json(json.dumps(about), path, schema)
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}): {schema.advice}")
    return about, arrays


class ArrayOnDisk:
    """One array of an .npz that is too large to hold, read by rows.

    Attributes:
      shape, dtype: as numpy's.

    Raises:
      UserError: for an unreadable file, a missing array, or one in Fortran order.
    """

    def __init__(self, path: Path, name: str):
        self._path, self._name = path, name
        with open_array(path, name) as member:
            self.shape, self.dtype = member.shape, member.dtype
        if member.is_fortran or not self.shape:
            raise UserError(f"{path}: {name} is not an array of plain rows: save it in C order")

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Rows from `start` on, `size` at a time; the last batch may be smaller.

        Raises:
          UserError: where the file is damaged.
        """
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        check_memory(self._path, size * row_bytes, f"a batch of {size} rows of {self._name}")
        with open_array(self._path, self._name) as member:
            member.file.seek(start * row_bytes, 1)
            for first in range(start, len(self), size):
                rows = min(size, len(self) - first)
                data = np.frombuffer(member.file.read(rows * row_bytes), self.dtype)
                yield data.reshape(rows, *self.shape[1:])
