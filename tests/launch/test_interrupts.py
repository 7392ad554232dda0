"""Ctrl-C: training saves and stops, and every other command ends in one line; nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from processes import ROOT, await_records, finish, training

from diffusion_jax.experiment.training import train

# What runs in the background ignores Ctrl-C, and hands that on to what it starts.
LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
MESSAGE = "Interrupted: the same command goes on from what is done.\n"


def start(*arguments: str) -> subprocess.Popen:
    """A command that hears Ctrl-C, even where the tests run in the background."""
    command = [sys.executable, "-c", LISTENING, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two steps."""
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.config(train__steps=2), workdir)
    return workdir


def test_training_saves_and_goes_on_where_it_was(tmp_path):
    long = training(train__steps=100_000, train__checkpoint_every=100_000)
    process = start(*long, f"--workdir={tmp_path}")
    await_records(tmp_path, 3, [process])
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=300)
    stopped = tiny.curve(tmp_path)[-1]["step"]
    assert (process.returncode, errors) == (0, "")
    last = printed.splitlines()[-1]
    assert last == f"Stopped by Ctrl-C after step {stopped}, saved: the same command continues."
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(stopped)]


def test_a_second_one_ends_training_at_once(tmp_path):
    """While it saves after the first, or is about to."""
    process = start(*training(train__steps=100_000), f"--workdir={tmp_path}")
    await_records(tmp_path, 3, [process])
    os.kill(process.pid, signal.SIGSTOP)  # both are there when it goes on
    process.send_signal(signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (130, MESSAGE)
    assert "Stopped by" not in printed


LOOKING = training(train__grid_every=6, train__grid_size=500, sampling__steps=200)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory) -> Path:
    """An uninterrupted run whose last grid takes a while."""
    workdir = tmp_path_factory.mktemp("looked_at")
    finish([start(*LOOKING, f"--workdir={workdir}")])
    return workdir


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_is_saved_before_it_is_looked_at(looked_at, tmp_path, number):
    """Whatever ends it in its last grid, the last step is there, and a rerun draws the grid."""
    command = [*LOOKING, f"--workdir={tmp_path}"]
    process = start(*command)
    printed = await_line(process, "Drawing ")
    while not (tmp_path / "checkpoints" / "6").exists():  # it is written while the grid is drawn
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=300)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
        assert rest == f"Stopped by {name} after step 6, saved: the same command continues.\n"
        assert (process.returncode, errors) == (0, "")
    assert not any((tmp_path / "grids").glob("*"))
    assert "Compiling the train step...\n" in printed
    process = start(*command)
    printed, _ = process.communicate(timeout=300)
    assert "Done: 6 steps" in printed
    assert "Compiling" not in printed  # there is no step left
    assert tiny.curve(tmp_path) == tiny.curve(looked_at)
    (grid,) = (tmp_path / "grids").iterdir()
    assert grid.read_bytes() == (looked_at / "grids" / grid.name).read_bytes()


def await_line(process: subprocess.Popen, start: str) -> list[str]:
    """Read what a command prints until a line that starts so; return all of it."""
    lines = [""]
    while not lines[-1].startswith(start):
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    return lines


def test_sampling_ends_in_one_line_and_goes_on(run, tmp_path):
    out = tmp_path / "out"
    command = ("launch.sample", f"--workdir={run}", "--num=3000", "--batch_size=8", f"--out={out}")
    process = start(*command)
    while not list(out.glob("parts/*.npy")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=300)
    assert printed == "Drawing 3,000 samples, 3 steps each...\n"
    assert (process.returncode, errors) == (130, MESSAGE)
    drawn = len(list(out.glob("parts/*.npy")))
    assert 0 < drawn < 3000 // 8
    assert {path.name for path in out.iterdir()} == {"request.json", "parts"}


def test_the_workers_of_a_preparation_are_not_heard_of(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((20_000, 8, 8, 1), np.uint8))
    out = tmp_path / "out"
    command = ["launch.prepare", "--source=npz", f"--path={tmp_path / 'x.npz'}", f"--out={out}"]
    process = start(*command, "--workers=2")
    while not list(out.glob("unfinished/*array_record*.partial")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=300)
    assert printed == f"Writing 20,000 records to {out}...\n"
    assert (process.returncode, errors) == (130, MESSAGE)
    assert (out / "unfinished" / "request.json").exists()
    finish([start(*command, "--workers=1")])
    assert (out / "manifest.json").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what is loaded")
@pytest.mark.parametrize("library", ["numpy", "jaxlib"])
def test_there_is_one_line_while_a_command_imports(library):
    process = start("launch.describe", "--config=configs/rin/digits.py")
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (130, MESSAGE)
