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


def test_sampling_ends_in_one_line_and_goes_on(run, tmp_path):
    out = tmp_path / "out"
    command = ("launch.sample", f"--workdir={run}", "--num=3000", "--batch_size=8", f"--out={out}")
    process = start(*command)
    while not list(out.glob("parts/*.npy")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, printed, errors) == (130, "", MESSAGE)
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
    assert (process.returncode, printed, errors) == (130, "", MESSAGE)
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
