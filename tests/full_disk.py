"""Disks that are really full: a file system of a few kilobytes, or a limit on the size of files."""

import contextlib
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Has the kernel refuse what this process writes beyond `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def before_and_after(
    folder: Path, size: str, *arguments: str
) -> list[subprocess.CompletedProcess[str]]:
    """Runs a command with `folder` on a disk of `size`, and again once that has room.

    What is in the folder is on that disk, too. Skips the test where disks cannot be mounted.
    """
    command = shlex.join([sys.executable, "-m", *arguments])
    folder.mkdir(exist_ok=True)
    here, first, second = (shlex.quote(str(folder.with_name(n))) for n in (folder.name, "1", "2"))
    script = f"""
        mkdir {here}.kept && cp -r {here}/. {here}.kept || exit 99
        mount -t tmpfs -o size={size} tmpfs {here} && cp -r {here}.kept/. {here} || exit 99
        {command} > {first}.out 2> {first}.err; echo $? > {first}.rc
        mount -o remount,size=1g {here} || exit 99
        {command} > {second}.out 2> {second}.err; echo $? > {second}.rc
        cp -r {here}/. {here}.kept
    """
    mounted = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=ROOT, timeout=600)
    if mounted.returncode == 99 or mounted.returncode == 1:
        pytest.skip("this machine lets nobody mount a disk")
    results = []
    for run in ("1", "2"):
        code, out, err = (
            folder.with_name(f"{run}.{name}").read_text() for name in ("rc", "out", "err")
        )
        results.append(subprocess.CompletedProcess(arguments, int(code), out, err))
    return results
