"""Let one process at a time write to a place, by the locks of the operating system.

The kernel releases a lock when its process ends, however it ends, so that a kill leaves nothing
locked. The locks are those of POSIX, which NFS has too. `diffusion_jax.parallel.hosts` takes them
for jobs of several processes.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from diffusion_jax.console import warn
from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import writing

_HELD_ELSEWHERE = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
# A POSIX lock does not keep a process from itself, and closing one descriptor releases it.
_held: set[Path] = set()


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from a folder until the end of the block.

    The folder is made if it is not there; one in which nothing was written is removed again. In a
    process that holds the lock already, this does nothing.

    Raises:
      UserError: if another process holds it, which is named.
      WriteError: if the folder cannot be made.
    """
    with _made(folder), _locked(folder / ".lock", folder):
        yield


@contextlib.contextmanager
def lock_path(path: Path) -> Iterator[None]:
    """Keep other processes from a file, or from a folder that must not be there yet.

    The lock lies beside it. Otherwise this is as `lock_folder`.
    """
    with _made(path.parent), _locked(path.with_name(f".{path.name}.lock"), path):
        yield


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it and the folders above it again if they stay empty."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # until one that is not empty
            for each in missing:
                each.rmdir()


@contextlib.contextmanager
def _locked(file: Path, path: Path) -> Iterator[None]:
    """Hold the lock of `path`, which lies in `file`."""
    key = file.resolve()
    if key in _held:
        yield
        return
    with writing(path):
        descriptor = _acquire(file, path)
    _held.add(key)
    try:
        yield
    finally:
        _held.remove(key)
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _acquire(file: Path, path: Path) -> int:
    """Take a lock; return its open descriptor."""
    # A folder that a stranger sent may hold a link of this name to a file of ours.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        descriptor = os.open(file, flags, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            if error.errno in _HELD_ELSEWHERE:
                raise UserError(
                    f"{path} is being written by {holder or 'another process'}: let it end, or "
                    f"choose another place (if its machine is gone for good, delete {file})"
                ) from error
            if error.errno not in _NO_LOCKS:
                raise
            warn(
                f"warning: {path} lies on a disk without locks ({error.strerror}): see to it that "
                "no other process writes there"
            )
            return os.open(file, flags, 0o666)
        # Whoever held the lock until now may have removed the file between the two calls.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _describe_self().encode(errors="backslashreplace"))
                return descriptor
        os.close(descriptor)


def _describe_self() -> str:
    command = textwrap.shorten(shlex.join(sys.orig_argv), 300)
    return f"process {os.getpid()} on {socket.gethostname()} ({command})"
