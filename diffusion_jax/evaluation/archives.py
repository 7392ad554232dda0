"""Archives of arrays (.npz), never pickled: written atomically, read whole or by rows."""

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
    """Write arrays and, as JSON in an array of characters, what they are.

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
    """Read what `save_archive` wrote: (about, arrays).

    Args:
      schema: what `about` must hold.
      names: arrays that the file must have; it may have more.

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
    """Array of an .npz that is too large for memory, read by rows.

    Attributes:
      shape: its shape, (N, ...).
      dtype: its dtype.

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
        """Yield the rows from `start` on, `size` at a time; the last batch may be smaller.

        Raises:
          UserError: if the file is damaged, or a batch is too large for memory.
        """
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        check_memory(self._path, size * row_bytes, f"a batch of {size} rows of {self._name}")
        with open_array(self._path, self._name) as member:
            member.file.seek(start * row_bytes, 1)
            for first in range(start, len(self), size):
                rows = min(size, len(self) - first)
                data = np.frombuffer(member.file.read(rows * row_bytes), self.dtype)
                yield data.reshape(rows, *self.shape[1:])


def open_images(path: Path) -> ArrayOnDisk:
    """Open the images of an .npz: 'arr_0', uint8 (N, H, W, 3 or 1), as guided-diffusion names it.

    Raises:
      UserError: for an unreadable file, or one that holds something else.
    """
    images = ArrayOnDisk(path, "arr_0")
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{path}: arr_0 is {images.dtype} of shape {images.shape}: give uint8 (N, H, W, 3), "
            "or 1 for grey"
        )
    return images
