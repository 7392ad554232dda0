"""Hosts come and go: one dies and stops the others, another number of them takes over."""

import shutil

import numpy as np
import pytest
import tiny
from processes import await_records, finish, start, training

from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_host_that_dies_stops_the_other_and_both_continue(tmp_path, victim):
    """The other misses host 0 at once, and any other host by its heartbeats, within 100 s."""
    arguments = [*training(train__steps=400, train__checkpoint_every=5), f"--workdir={tmp_path}"]
    processes = start(2, 4, *arguments)
    await_records(tmp_path, 8, processes)
    processes[victim].kill()
    _, errors = processes[1 - victim].communicate(timeout=300)
    assert processes[1 - victim].returncode != 0
    assert "another task died" in errors  # JAX's words; it ends the process itself
    stopped = tiny.curve(tmp_path)
    assert len(stopped) < 400
    processes[victim].communicate()

    short = f"--config.train.steps={len(stopped) + 3}"
    finish(start(2, 4, *arguments, short))
    continued = tiny.curve(tmp_path)
    assert continued[: len(stopped)] == stopped  # those after the checkpoint, computed again
    whole = tmp_path / "whole"
    train(tiny.config(train__steps=len(stopped) + 3), whole)
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(whole), rtol=1e-5)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run of three steps of six, by one process that shares the parameters among 2 of 8."""
    workdir = tmp_path_factory.mktemp("half")
    train(tiny.config(train__steps=3), workdir, make_mesh(fsdp=2))
    return workdir


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """The losses of all six steps by one process."""
    workdir = tmp_path_factory.mktemp("six")
    train(tiny.config(), workdir, make_mesh(fsdp=2))
    return tiny.losses(workdir)


def test_fewer_devices_of_one_process_continue_a_checkpoint(half, six, tmp_path):
    workdir = shutil.copytree(half, tmp_path / "run")
    train(tiny.config(), workdir, make_mesh(4, fsdp=4))
    np.testing.assert_allclose(tiny.losses(workdir), six, rtol=1e-5)


@pytest.mark.parametrize(
    "count, devices, fsdp", [(2, 4, 8), pytest.param(4, 2, 4, marks=pytest.mark.slow)]
)
def test_more_processes_continue_a_checkpoint(half, six, tmp_path, count, devices, fsdp):
    workdir = shutil.copytree(half, tmp_path / "run")
    finish(start(count, devices, *training(mesh__fsdp=fsdp), f"--workdir={workdir}"))
    np.testing.assert_allclose(tiny.losses(workdir), six, rtol=1e-5)
