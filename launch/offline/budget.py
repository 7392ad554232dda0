"""A fixed time, spent on stages in order of worth: limits, records, and commands that must end.

Nothing here imports JAX: the process that watches the time holds no device.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_jax.storage.json_files import write_json

GRACE = 20.0  # seconds from SIGTERM to SIGKILL, in which training saves
TAIL = 2000  # characters of a log that are kept of a command that failed

# Runs a module as `python -m` does, and has Linux kill it (PR_SET_PDEATHSIG) with its parent.
_START = """
import ctypes, os, runpy, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the process that started this one is gone")
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Budget(NamedTuple):
    """What is left of a fixed time.

    Attributes:
      whole: all of it, seconds.
      end: when it is over, seconds since the epoch.
    """

    whole: float
    end: float

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self.end - time.time())

    def ceiling(self, seconds: float, share: float) -> float:
        """Return how long a stage may take: `seconds` or a `share` of the whole, if it is left."""
        return min(max(seconds, share * self.whole), self.left())

    def reserve(self, seconds: float) -> float:
        """Return how much to set aside for what must follow, a quarter of what is left at most."""
        return min(seconds, self.left() / 4)


class Records(NamedTuple):
    """The JSON file of each stage, OUT/STAGE.json; every change is written whole or not at all."""

    out: Path

    def read(self, stage: str) -> dict[str, Any]:
        """Return what a stage has found so far."""
        path = self.out / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def update(self, stage: str, **facts: Any) -> None:
        """Set fields of a stage's record; None removes one."""
        self.out.mkdir(parents=True, exist_ok=True)
        merged = {"finished": False, **self.read(stage), **facts}
        kept = {name: value for name, value in merged.items() if value is not None}
        write_json(self.out / f"{stage}.json", kept)

    def is_finished(self, stage: str) -> bool:
        """Return whether a stage has nothing left to do."""
        return bool(self.read(stage).get("finished"))


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
      seconds: how long it ran.
      in_time: whether it ended by itself, and not at its limit.
      error: the end of what it printed, where it failed by itself.
    """

    seconds: float
    in_time: bool
    error: str | None


def limited(command: Sequence[str], seconds: float, log: Path, grace: float = GRACE) -> Ended:
    """Run `python -m COMMAND` for a time at most; what it prints is appended to a log.

    It gets SIGTERM at the limit and SIGKILL `grace` seconds later. It never outlives this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as file:
        begin = file.tell()
        file.write(f"$ python -m {' '.join(command)}\n".encode())
        file.flush()
        arguments = [sys.executable, "-u", "-c", _START, str(os.getpid()), *command]
        process = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT)
        in_time = True
        try:
            process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            _end(process, grace)
    error = None
    if in_time and process.returncode:
        text = log.read_bytes()[begin:].decode(errors="replace")
        error = f"exit status {process.returncode}: {text[-TAIL:].strip()}"
    return Ended(time.monotonic() - start, in_time, error)


def _end(process: subprocess.Popen, grace: float) -> None:
    """End a process if it still runs."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    if process.poll() is None:
        process.kill()
        process.wait()
