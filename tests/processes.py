"""Commands as processes: one, or several joined as the hosts of a run; killed at random moments."""

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import tiny

ROOT = Path(__file__).parents[1]


def start(count: int, devices: int, *arguments: str) -> list[subprocess.Popen]:
    """`count` processes of a command, of so many devices each, joined over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-m", *arguments]
    joined = [f"--coordinator=127.0.0.1:{port}", f"--num_hosts={count}"] if count > 1 else []
    return [
        subprocess.Popen(
            [*command, *joined, *([f"--host={host}"] if joined else [])],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in range(count)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """What each printed; all must have succeeded."""
    outputs = [process.communicate(timeout=600) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [printed for printed, _ in outputs]


def training(model: str = "rin", **changes: object) -> list[str]:
    """launch.train of a tiny config; changes are written as train__steps=3."""
    config = tiny.flags() if model == "rin" else tiny.diffussm_flags()
    changes = [f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()]
    return ["launch.train", *config, *changes]


def await_records(workdir: Path, count: int, processes: list[subprocess.Popen]) -> None:
    """Until a run has written so many."""
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_kills(folder: Path, hosts: int, kills: int, steps: int, seed: int) -> None:
    """Kills a run again and again at random moments; its curve is the uninterrupted one's.

    One host after the other is killed, in any order: the last may be left alone for a while.
    """
    draw = random.Random(seed)
    killed, whole = folder / "killed", folder / "whole"

    def begin(workdir: Path) -> list[subprocess.Popen]:
        return start(hosts, 8 // hosts, *training(train__steps=steps), f"--workdir={workdir}")

    for _ in range(kills):
        last = tiny.curve(killed)[-1]["step"] if killed.exists() else 0
        processes = begin(killed)
        await_records(killed, min(last + draw.randint(1, 10), steps - 5), processes)
        time.sleep(draw.uniform(0, 0.3))
        for process in draw.sample(processes, hosts):
            process.kill()
            time.sleep(draw.choice([0, 0, 0.3]))
        for process in processes:
            process.communicate()
    for workdir in (killed, whole):
        finish(begin(workdir))
    assert len(tiny.curve(whole)) == steps
    assert tiny.curve(killed) == tiny.curve(whole)
