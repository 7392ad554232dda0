"""Two commands at once: one writes, the other is told so; readers and other folders are free."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny
from processes import await_records, finish, start, training

from diffusion_jax.experiment.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two steps."""
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.config(train__steps=2), workdir)
    return workdir


def refused(process: subprocess.Popen, by: subprocess.Popen, path: Path) -> None:
    """Checks that a command was told in one line who is writing there."""
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, printed) == (2, "")
    assert errors.startswith(f"error: {path} is being written by process {by.pid} on ")
    assert "python -m launch." in errors
    assert len(errors.splitlines()) == 1


def test_a_run_that_trains_is_read_by_all_and_written_by_one(tmp_path):
    workdir = tmp_path / "run"
    long = [*training(train__steps=100_000), f"--workdir={workdir}"]
    (first,) = start(1, 8, *long)
    await_records(workdir, 5, [first])
    readers = ("launch.sample", "--num=2"), ("launch.report",)
    processes = [start(1, 8, *reader, f"--workdir={workdir}")[0] for reader in readers]
    (second,) = start(1, 8, *long)
    refused(second, first, workdir)
    finish(processes)
    assert first.poll() is None
    first.kill()
    first.communicate()
    steps = [record["step"] for record in tiny.curve(workdir)]
    assert steps == list(range(1, len(steps) + 1))
    config = tiny.config(train__steps=steps[-1] + 1)  # a kill leaves nothing locked
    assert train(config, workdir).finished


def test_two_samplings_share_a_run_but_not_a_folder(run, tmp_path):
    outs = [tmp_path / name for name in ("one", "two")]

    def begin(out: Path, num: int) -> subprocess.Popen:
        asked = (f"--num={num}", "--batch_size=8", f"--out={out}")
        return start(1, 8, "launch.sample", f"--workdir={run}", *asked)[0]

    finish([begin(out, 9) for out in outs])
    one, two = (np.load(out / "samples.npz")["arr_0"] for out in outs)
    np.testing.assert_array_equal(one, two)
    first = begin(tmp_path / "long", 20_000)
    while not list(tmp_path.glob("long/parts/*.npy")):
        assert first.poll() is None, first.communicate()
    refused(begin(tmp_path / "long", 20_000), first, tmp_path / "long")
    assert first.poll() is None
    first.kill()
    first.communicate()
