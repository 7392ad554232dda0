"""Runs commands as users call them, at a twentieth of the cost of a new interpreter for each.

A server process imports what the commands import, once. For each call it forks a child, which runs
the command's module as `python -m` would, in an interpreter where no JAX backend was started yet.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Result(NamedTuple):
    """How a command ended: its exit status (negative for a signal) and what it printed."""

    code: int
    stdout: str
    stderr: str


class Commands:
    """A server of commands; see `serving`."""

    def __init__(self, server: subprocess.Popen):
        self._server = server

    def run(
        self,
        *arguments: str,
        cwd: Path = ROOT,
        timeout: float = 60,
        constants: dict[str, int] | None = None,
    ) -> Result:
        """Run `python -m` of the arguments, with other `constants`.

        Constants are given by their full names: {"diffusion_jax.experiment.features.BATCH": 4}.

        A command that takes longer than `timeout` seconds is killed: status -9.
        """
        request = {"arguments": arguments, "cwd": str(cwd), "timeout": timeout}
        request["constants"] = constants or {}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Result(*json.loads(self._server.stdout.readline()))


@contextlib.contextmanager
def serving() -> Iterator[Commands]:
    """Start a server, and end it afterwards."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Commands(server)
    finally:
        server.communicate(timeout=60)


def _serve() -> None:
    sys.path.insert(0, str(ROOT))
    # What the commands import; they themselves are imported by each child.
    import launch.evaluate
    import launch.export
    import launch.inspect
    import launch.prepare
    import launch.train  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            code = _call(request, out.fileno(), errors.fileno())
            texts = [_read(file) for file in (out, errors)]
        print(json.dumps([code, *texts]), flush=True)


def _call(request: dict, out: int, errors: int) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os._exit(_run(request))
    previous = signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return os.waitstatus_to_exitcode(status)


def _run(request: dict) -> int:
    module, *arguments = request["arguments"]
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])  # as python -m does
    for name, value in request["constants"].items():
        holder, _, constant = name.rpartition(".")
        setattr(importlib.import_module(holder), constant, value)
    sys.modules.pop(module, None)
    sys.argv = [str(ROOT / f"{module.replace('.', '/')}.py"), *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _read(file) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape").encode(errors="replace").decode()


if __name__ == "__main__":
    _serve()
