"""Several processes of one run compute what one does: batches, curve, samples."""

import signal

import numpy as np
import pytest
import tiny
from processes import await_records, finish, start, training


@pytest.fixture(scope="module", params=["rin", "diffussm"])
def model(request):
    return request.param


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    """A run of six steps, one process of eight devices."""
    workdir = tmp_path_factory.mktemp("alone")
    finish(start(1, 8, *training(model), f"--workdir={workdir}"))
    return workdir


@pytest.mark.parametrize(
    "count, devices, fsdp, tensor",
    [
        (2, 4, 2, 2),
        pytest.param(2, 4, 1, 1, marks=pytest.mark.slow),
        pytest.param(4, 2, 4, 1, marks=pytest.mark.slow),
    ],
)
def test_processes_share_the_curve_and_the_samples_of_one(
    model, alone, tmp_path, count, devices, fsdp, tensor
):
    mesh = {"mesh__fsdp": fsdp, "mesh__tensor": tensor if model == "diffussm" else 1}
    printed = finish(start(count, devices, *training(model, **mesh), f"--workdir={tmp_path}"))
    assert "Done: 6 steps" in printed[0]
    assert all("Done" not in text for text in printed[1:])  # one of them speaks
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(alone), rtol=1e-5)
    drawn = []
    for workdir, processes in ((tmp_path, (count, devices)), (alone, (1, 8))):
        out = f"--out={workdir / 'samples'}"
        finish(start(*processes, "launch.sample", f"--workdir={workdir}", "--num=10", out))
        with np.load(workdir / "samples" / "samples.npz") as archive:
            drawn.append(archive["arr_0"].astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 1  # grey levels


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_saves_and_the_run_continues_on_its_curve(tmp_path, count):
    """Whoever is told: all processes stop after the same step."""
    long = training(train__steps=400, train__checkpoint_every=400)
    arguments = (*long, f"--workdir={tmp_path}")
    processes = start(count, 8 // count, *arguments)
    await_records(tmp_path, 3, processes)
    processes[-1].send_signal(signal.SIGTERM)
    printed = finish(processes)
    assert "Stopped by SIGTERM after step" in printed[0]
    stopped = tiny.curve(tmp_path)
    (saved,) = (tmp_path / "checkpoints").iterdir()
    assert stopped[-1]["step"] == int(saved.name) < 400
    short = training(train__steps=int(saved.name) + 3, train__checkpoint_every=400)
    finish(start(count, 8 // count, *short, f"--workdir={tmp_path}"))
    continued = tiny.curve(tmp_path)
    assert continued[: len(stopped)] == stopped
    finish(start(count, 8 // count, *short, f"--workdir={tmp_path / 'whole'}"))
    assert tiny.curve(tmp_path / "whole") == continued


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--num_hosts=2"], "--num_hosts and --host want --coordinator"),
        (["--coordinator=127.0.0.1:1"], "--coordinator wants --num_hosts and --host"),
        (["--coordinator=127.0.0.1:1", "--num_hosts=2", "--host=2"], "hosts are 0 to 1"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path, arguments, message):
    (process,) = start(1, 1, *training(), f"--workdir={tmp_path}", *arguments)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert message in errors
