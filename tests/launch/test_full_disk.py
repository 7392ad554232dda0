"""A disk that is full stops a command with one line, and with room the same command continues."""

import numpy as np
import pytest
import tiny
from full_disk import before_and_after
from processes import training

from diffusion_jax.experiment.training import train


def check_line(errors: str, path: object) -> None:
    """Checks the one line about a full disk under `path`."""
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith(f"error: {path}/") or f"written to {path}/" in errors
    assert "make room there" in errors


def test_sampling_stops_in_one_line_and_continues(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    train(tiny.config(train__steps=2), run)
    asked = (f"--workdir={run}", f"--out={out}", "--num=400", "--batch_size=8")
    full, roomy = before_and_after(out, "100k", "launch.sample", *asked)
    assert full.returncode == 2, full.stderr
    check_line(full.stderr, out)
    assert (roomy.returncode, roomy.stderr) == (0, "")
    with np.load(tmp_path / "out.kept" / "samples.npz") as archive:
        assert archive["arr_0"].shape == (400, 8, 8, 1)
    assert not list((tmp_path / "out.kept").rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["30k", "60k", "200k", "600k", "1500k"])
def test_training_stops_in_one_line_and_continues(tmp_path, size):
    """Whatever meets the full disk: configs, records, event files, checkpoints, the report."""
    whole = tmp_path / "whole"
    train(tiny.config(train__steps=300, train__checkpoint_every=100), whole)
    command = (*training(train__steps=300, train__checkpoint_every=100),)
    workdir = tmp_path / "run"
    full, roomy = before_and_after(workdir, size, *command, f"--workdir={workdir}")
    assert full.returncode == 2, full.stderr
    check_line(full.stderr, workdir)
    assert (roomy.returncode, roomy.stderr) == (0, "")
    assert len(tiny.curve(tmp_path / "run.kept")) == 300
    np.testing.assert_allclose(tiny.losses(tmp_path / "run.kept"), tiny.losses(whole), rtol=1e-4)
