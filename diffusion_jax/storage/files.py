"""Write files whole or not at all, hash them, and explain failures of the disk."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from diffusion_jax.errors import UserError
from diffusion_jax.storage.untrusted import open_regular

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FAILING = {errno.EIO, errno.EROFS, errno.ESTALE}


class WriteError(UserError):
    """A file cannot be written: the disk is full or failing, or the place is not writable."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a refusal of the system to write at `path` into a line that says what to do.

    Libraries often raise an error of their own after the system's, as when they close a file that
    they could not finish; the system's is the one that is reported.

    Raises:
      WriteError: instead of every `OSError`, and of whatever a full or failing disk led to.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = _system_code(error)
        if code is None and not isinstance(error, OSError):
            raise
        raise WriteError(cannot_write(path, code, error)) from error


def cannot_write(path: str | Path, code: int | None, error: Exception) -> str:
    """Return one line about an error, whose number may be known."""
    advice = "choose another place, or make this one writable"
    if code in _NO_ROOM or code is None:  # NumPy and Pillow do not say how they met a full disk
        advice = "make room there and give the same command again, which continues"
    elif code in _FAILING:
        advice = "check that disk and give the same command again, which continues"
    return f"{path} cannot be written ({os.strerror(code) if code else error}): {advice}"


def describe(error: OSError) -> str:
    """Return one line about what the system refused."""
    place = error.filename or "a file"
    if (code := _system_code(error)) in _NO_ROOM | _FAILING:
        return cannot_write(place, code, error)
    return f"{place}: {error.strerror or error}"


def _system_code(error: BaseException) -> int | None:
    """Return the system's number of an error, or of the full disk that led to it."""
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # of libraries in Rust
        return int(found[1])
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    before = error.__cause__ or error.__context__
    code = _system_code(before) if before else None
    return code if code in _NO_ROOM | _FAILING else None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path`, then rename what it wrote to `path`.

    Whatever happens, a power loss included, `path` is the old file or the whole new one. Nothing
    is left beside it by a failure; what a killed process left is removed by the next call.

    Raises:
      WriteError: if it cannot be written.
    """
    here = socket.gethostname()
    partial = path.with_name(f"{path.name}.{here}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    with writing(path):
        _remove_abandoned(path, here)
        try:
            write(partial)
            publish(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def publish(partial: Path, path: Path) -> None:
    """Rename a file, or a folder of files, once all of it is on the disk."""
    for file in partial.iterdir() if partial.is_dir() else ():
        _sync(file)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # folders of some network disks
            raise
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path, here: str) -> None:
    """Remove what processes of this machine left that were killed while they wrote `path`."""
    for name in glob.glob(glob.escape(f"{path}.{here}.") + "*.partial"):
        writer = name.removeprefix(f"{path}.{here}.").split(".")[0]
        if writer.isdigit() and not _is_alive(int(writer)):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no number of a process
    return True


class Appender:
    """A file that grows by whole pieces, each handed to the system at once.

    There is no buffer: a full disk fails the write that met it, and not a later close.

    Args:
      path: is made if it is not there.

    Raises:
      WriteError: here and from every method, if it cannot be written; a piece that was begun is
        taken back.
    """

    def __init__(self, path: Path):
        self.path = path
        with writing(path):
            self._file = path.open("ab", buffering=0)

    def write(self, piece: bytes) -> None:
        """Append a piece."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            with writing(self.path):
                while piece:
                    piece = piece[self._file.write(piece) :]
        except WriteError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def sync(self) -> None:
        """Return once all pieces are on the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of the bytes of a file, in hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
