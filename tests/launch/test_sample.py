"""Sampling from a run: keyed by sample index, resumable, and refusing what it cannot do."""

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from einops import rearrange
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.experiment import sample_files
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.weights import restore_state
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.training.checkpoints import save_once

REQUEST = dict(num=70, labels="", seed=1, batch_size=64)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.config(train__steps=2), workdir)
    return workdir


def draw(run: Path, out: Path, mesh=None, config=None, **changes):
    """(images, labels) of a request."""
    folder = sample(config or tiny.config(), run, out, REQUEST | changes, mesh)
    with np.load(folder / "samples.npz") as archive:
        assert archive["arr_0"].dtype == np.uint8
        assert archive["arr_1"].dtype == np.int64  # the labels, as guided-diffusion writes them
        np.testing.assert_array_equal(archive["arr_1"], archive["labels"])
        return archive["arr_0"], archive["labels"]


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    return draw(run, tmp_path_factory.mktemp("expected") / "out")


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


@pytest.mark.parametrize("batch_size, devices", [(7, None), (7, 1), (64, 1)])
def test_samples_depend_on_seed_and_index_alone(run, expected, tmp_path, batch_size, devices):
    """To rounding: one grey level where a float32 sum falls the other way."""
    images, labels = draw(run, tmp_path / "out", make_mesh(devices), batch_size=batch_size)
    assert images.shape == (70, 8, 8, 1)
    assert levels_apart(images, expected[0]) <= 1
    np.testing.assert_array_equal(labels, expected[1])


def test_fewer_samples_are_the_first_of_more(run, expected, tmp_path):
    images, labels = draw(run, tmp_path / "out", num=9)
    assert levels_apart(images, expected[0][:9]) <= 1
    np.testing.assert_array_equal(labels, expected[1][:9])


def test_another_seed_gives_other_samples(run, expected, tmp_path):
    assert levels_apart(draw(run, tmp_path / "out", seed=2)[0], expected[0]) > 20


def test_labels_are_given_in_turn(run, tmp_path):
    assert draw(run, tmp_path / "out", num=5, labels="7,2")[1].tolist() == [7, 2, 7, 2, 7]


def test_a_stopped_command_continues(run, expected, tmp_path, monkeypatch):
    """Stopped after two of its batches, by a failure to write the third."""
    written = []
    save = sample_files.save_part

    def save_two_more(out, start, images):
        if len(written) % 3 == 2:
            raise KeyboardInterrupt
        written.append(start)
        save(out, start, images)

    monkeypatch.setattr(sample_files, "save_part", save_two_more)
    with pytest.raises(KeyboardInterrupt):
        draw(run, tmp_path / "out", batch_size=16)
    written.append("stopped")
    images, _ = draw(run, tmp_path / "out", batch_size=24)
    assert written == [0, 16, "stopped", 32, 56]
    assert levels_apart(images, expected[0]) <= 1
    assert not (tmp_path / "out" / "parts").exists()


def test_a_folder_of_another_request_is_refused(run, tmp_path):
    draw(run, tmp_path / "out", num=3)
    before = (tmp_path / "out" / "samples.npz").stat().st_mtime_ns
    draw(run, tmp_path / "out", num=3)  # the same request is done already
    assert (tmp_path / "out" / "samples.npz").stat().st_mtime_ns == before
    assert not (tmp_path / "out" / "parts").exists()
    with pytest.raises(UserError, match="holds samples of another request"):
        draw(run, tmp_path / "out", num=4)


def test_the_grid_shows_the_samples(run, tmp_path):
    images, _ = draw(run, tmp_path / "out", num=12)
    grid = np.asarray(Image.open(tmp_path / "out" / "grid.png"))
    assert grid.shape[1] == 4 * 34
    tiles = rearrange(grid, "(row h) (column w) c -> (row column) h w c", row=3, column=4)
    shown = tiles[:, -33:-1:4, 1:33:4, :1]  # below the captions
    np.testing.assert_array_equal(shown, images)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num=0), "num is 0: it must be at least 1"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(labels="3,10"), "--labels has 10: the classes are 0 to 9"),
        (dict(labels="three"), "--labels is 'three': give numbers"),
    ],
)
def test_what_cannot_be_sampled_is_refused(run, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        draw(run, tmp_path / "out", **changes)


def test_guidance_needs_a_network_trained_for_it(run, tmp_path):
    config = tiny.config(sampling__guidance=1.0, objective__label_dropout=0.0)
    with pytest.raises(UserError, match=r"sampling.guidance is 1.0: it needs"):
        draw(run, tmp_path / "out", config=config)


def test_a_run_without_a_checkpoint_is_refused(run, tmp_path):
    shutil.copy(run / "config.json", tmp_path)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        draw(tmp_path, tmp_path / "out")


def test_samples_that_are_not_finite_are_refused_and_leave_nothing(run, tmp_path):
    """By weights that hold a NaN, and by a guidance weight that no float32 can take."""
    poisoned = tmp_path / "poisoned"
    shutil.copytree(run, poisoned, ignore=shutil.ignore_patterns("samples"))
    config = tiny.config(train__steps=2)
    state = restore_state(poisoned, config, build(config), make_mesh(1))
    ema = jax.tree.map(lambda values: values.at[(0,) * values.ndim].set(jnp.nan), state.ema)
    save_once(poisoned / "checkpoints", 3, dataclasses.replace(state, ema=ema))
    before = sorted(poisoned.rglob("*"))
    with pytest.raises(UserError, match="sample 0 is not finite: at reverse step 1 of 3"):
        draw(poisoned, None)
    assert sorted(poisoned.rglob("*")) == before
    out = tmp_path / "out"
    with pytest.raises(UserError, match="sample 0 is not finite: at reverse step 1 of 3"):
        draw(run, out, config=tiny.config(sampling__guidance=1e30))
    assert not out.exists()


def test_auto_is_recorded_as_the_spacing_that_it_stands_for(run, tmp_path):
    config = tiny.config(sampling__sampler="dpmpp_2m")
    draw(run, tmp_path / "out", num=3, config=config)
    assert read_request(tmp_path / "out")["sampling"]["spacing"] == "even"
    config.sampling.spacing = "even"
    draw(run, tmp_path / "out", num=3, config=config)  # the same request
    config.sampling.spacing = "karras"
    with pytest.raises(UserError, match="holds samples of another request"):
        draw(run, tmp_path / "out", num=3, config=config)
    folder = sample(config, run, None, REQUEST | dict(num=3))
    assert folder.name == "step2_dpmpp_2m3_n3_seed1_karras"
