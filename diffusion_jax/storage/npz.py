"""Read .npz archives of unknown origin: no pickles, and no more memory than the archive fills.

NumPy allocates what the header of an array asks for before it reads anything, and a zip archive
can hold a thousand times its size. So sizes are compared first: the header's with the member's,
the member's with the packed bytes, and all of them with the memory of the machine.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.storage.untrusted import Unreadable, check_memory, open_regular

SUFFIX = ".npy"
# Arrays beyond `LARGE` bytes that are packed more tightly than images, features and weights ever
# are, constant ones apart, are taken for bombs. Smaller arrays may be constant.
LARGE, TIGHTEST = 2**30, 200


class Member(NamedTuple):
    """An array of an archive, opened after its header.

    Attributes:
      file: of its elements, in the order of memory.
      shape, dtype: as NumPy's.
      is_fortran: whether the first axis is the fastest.
    """

    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool


def array_names(path: str | Path) -> list[str]:
    """Return the names of the arrays in an archive.

    Raises:
      UserError: for a file that cannot be read or is no .npz.
    """
    with _opened(path) as archive:
        return _names(archive)


def read_arrays(path: str | Path, *names: str) -> dict[str, np.ndarray]:
    """Return the named arrays of an archive, or all.

    Raises:
      UserError: for a file that cannot be read or is no .npz, missing arrays, which it names, and
        arrays that are pickled, damaged, or too large for this machine.
    """
    with _opened(path) as archive:
        there = _names(archive)
        if missing := [name for name in names if name not in there]:
            raise Unreadable(
                path,
                f"has no {', '.join(missing)} among its {', '.join(there)}: give a complete file",
            )
        infos = {name: archive.getinfo(name + SUFFIX) for name in names or there}
        size = sum(info.file_size for info in infos.values())
        check_memory(path, size, "what it holds")
        arrays = {}
        for name, info in infos.items():
            with _member(path, archive, info):
                pass  # checked; NumPy reads it again from its header on
            with archive.open(info) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return arrays


@contextlib.contextmanager
def open_array(path: str | Path, name: str) -> Iterator[Member]:
    """Open one array of an archive, to be read piece by piece.

    Raises:
      UserError: as `read_arrays`; also for what goes wrong while the array is open.
    """
    with _opened(path) as archive:
        check_choice(f"the array of {path}", name, _names(archive))
        with _member(path, archive, archive.getinfo(name + SUFFIX)) as member:
            yield member


def _names(archive: zipfile.ZipFile) -> list[str]:
    names = (name for name in archive.namelist() if name.endswith(SUFFIX))
    return [name.removesuffix(SUFFIX) for name in names]


@contextlib.contextmanager
def _member(path: str | Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[Member]:
    name = info.filename.removesuffix(SUFFIX)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable(
            path, f"holds {name!r}, which is packed in a way that NumPy does not use: save it again"
        )
    if info.file_size > max(LARGE, TIGHTEST * info.compress_size):
        raise Unreadable(
            path,
            f"holds {name!r}, which is {info.file_size / 2**30:,.1f} GiB packed into "
            f"{info.compress_size:,} bytes, as only constant arrays are: save it with np.savez if "
            "that is meant",
        )
    with archive.open(info) as file:
        # Version 3.0 differs from 2.0 in the encoding of field names only, which we do not have.
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else None
        shape, is_fortran, dtype = (read or np.lib.format.read_array_header_2_0)(file)
        if dtype.hasobject:
            raise Unreadable(
                path, f"holds {name!r}, which is pickled and could run code: save it as numbers"
            )
        held = info.file_size - file.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
            raise Unreadable(
                path,
                f"holds {name!r}, which is damaged: its header announces {dtype} of shape "
                f"{shape}, and it has {held:,} bytes: copy or make it again",
            )
        yield Member(file, shape, dtype, is_fortran)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Yield the archive; name the file in whatever goes wrong in reading it."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (UserError, AttributeError, NameError):
        raise
    except Exception as error:  # what is raised depends on the byte that is wrong
        raise Unreadable(
            path, f"is cut short or no npz file of plain arrays ({error}): copy or make it again"
        ) from error
