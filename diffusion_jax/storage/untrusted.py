"""Guard against hostile files: what is opened, how much is read, and where names lead."""

import contextlib
import functools
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from diffusion_jax.errors import UserError

LONGEST_NAME = 255  # bytes that file systems take
_IRREGULAR = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unreadable(UserError):
    """A file that cannot be read as a whole.

    Attributes:
      path: of the file.
      reason: what is wrong with it and what to do, to follow the path.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading.

    Anything else that has a name in a folder is refused: reading a FIFO may wait for ever, and
    reading a device may never end.

    Raises:
      Unreadable: for a missing file, a link to nothing, a file without permission, a folder, a
        FIFO, a socket or a device.
    """
    check_regular(path)  # opening a device may already act on it
    with _explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)  # it may be another one by now
    except Unreadable:
        file.close()
        raise
    return file


def read_regular(path: str | Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Args:
      limit: bytes that it may have.

    Raises:
      Unreadable: as `open_regular`, and for a larger file.
    """
    with open_regular(path) as file, _explained(path):
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Unreadable(path, f"has more than {limit >> 20} MiB, the most that is read")
    return content


def check_regular(path: str | Path) -> None:
    """Raise `Unreadable` for what is not there or no regular file, without opening it."""
    with _explained(path):
        mode = os.stat(path).st_mode
    _refuse_irregular(path, mode)


def check_memory(path: str | Path, size: int, what: str) -> None:
    """Raise `Unreadable` if `size` bytes, which `what` in a file takes, exceed the memory here."""
    if size > (memory := machine_memory()):
        raise Unreadable(
            path,
            f"{what} takes {size / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB "
            "of memory: split it, or read it on a larger machine",
        )


@functools.cache
def machine_memory() -> int:
    """Return the bytes of memory that this process can have, of its machine or container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is 'max'
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory


def inside(folder: Path, name: object, source: str | Path) -> Path:
    """Return the path in `folder` of a file whose name was read from another file.

    Args:
      name: relative to `folder`; may name a file in a folder of it.
      source: the file that has the name, for the message.

    Raises:
      UserError: for a name that leaves the folder by being absolute or by '..', or that can name
        no file.
    """
    parts = name.split("/") if isinstance(name, str) and name != "." else [""]
    if any(
        part in ("", "..") or "\0" in part or len(os.fsencode(part)) > LONGEST_NAME
        for part in parts
    ):
        raise UserError(
            f"{source} names the file {name!r}, which is not in its folder: it is damaged or "
            "hostile, get another copy"
        )
    return folder.joinpath(*parts)


def check_utf8(name: str | Path, what: str) -> None:
    """Raise `UserError` for a name that is not UTF-8, which a data set cannot hold."""
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} {str(name)!r} is not UTF-8: rename it") from error


def check_before_writing(folder: Path) -> None:
    """Raise `UserError` for what makes writing into a folder that others filled unsafe.

    Writing to a link changes the file that it leads to, and a FIFO waits for a reader.
    """
    home = os.path.realpath(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
            raise UserError(
                f"{path} is a link to {os.readlink(path)}, outside of the folder that is written: "
                "replace it by what it links to"
            )
        if not path.is_symlink() and not path.is_dir():
            check_regular(path)


@contextlib.contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Raise what the system says of a file as `Unreadable`."""
    try:
        yield
    except FileNotFoundError as error:
        link = f"is a link to {os.readlink(path)}, which" if os.path.islink(path) else ""
        raise Unreadable(path, f"{link} does not exist".strip()) from error
    except (OSError, ValueError) as error:  # ValueError of a zero byte in the name
        reason = getattr(error, "strerror", error)
        raise Unreadable(path, f"cannot be read ({reason})") from error


def _refuse_irregular(path: str | Path, mode: int) -> None:
    if name := _IRREGULAR.get(stat.S_IFMT(mode)):
        raise Unreadable(path, f"is {name}, not a file: remove it")
