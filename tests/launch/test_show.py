"""What pictures and edits promise: what is shared is shared, and ends are plain samples."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.data.arrays import digits
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import quality, show
from diffusion_jax.experiment.drawing import open_run
from diffusion_jax.experiment.given import Edit, parse_mask
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.show import KINDS
from diffusion_jax.experiment.training import train
from diffusion_jax.reporting.pictures import read_pictures
from diffusion_jax.sampling.editing import Given

INDICES, LABELS = np.arange(8), np.arange(8, dtype=np.int32)
CONFIG = dict(train__steps=2, sampling__sampler="ddim")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.config(train__steps=2), workdir)
    return workdir


@pytest.fixture(scope="module")
def run(workdir):
    return open_run(tiny.config(**CONFIG), workdir, seed=3, batch_size=8)


@pytest.fixture(scope="module")
def plain(run):
    return run.draw(INDICES, LABELS)


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_a_trajectory_starts_from_noise_of_the_index_and_ends_in_the_sample(run, plain):
    """Equal indices share the start noise, whatever their labels: rows of a sweep."""
    last = run.experiment.sampling.steps - 1
    pairs = run.trajectory(INDICES % 2, LABELS, (0, last))
    assert pairs.shape == (8, 2, 2, 8, 8, 1)
    x_start, x0_last = pairs[:, 0, 0], pairs[:, 1, 1]
    for index in (0, 1):
        same = x_start[index == INDICES % 2]
        np.testing.assert_array_equal(same, np.broadcast_to(same[0], same.shape))
    assert levels_apart(x_start[0], x_start[1]) > 50
    assert levels_apart(x0_last[:2], plain[:2]) <= 1


def test_interpolation_ends_in_plain_samples(run, plain):
    fraction = np.repeat(np.float32([0, 1]), 4)
    own, other = np.array([0, 2, 4, 6] * 2), np.array([1, 3, 5, 7] * 2, np.int32)
    expected = np.where(fraction == 0, own, other)
    labels = LABELS[expected]
    drawn = run.draw(own, labels, Given(other=other, fraction=fraction))
    assert levels_apart(drawn, plain[expected]) <= 1


def test_guidance_of_0_is_none(run, plain):
    weights = np.repeat(np.float32([0, 4]), 4)
    drawn = run.draw(INDICES, LABELS, Given(guidance=weights))
    assert levels_apart(drawn[:4], plain[:4]) <= 1
    assert levels_apart(drawn[4:], plain[4:]) > 1


def edited(workdir, out, images, config, **changes):
    """(samples, labels) of images drawn anew."""
    fields = dict(labels=None, redraw=np.ones((8, 8), bool), noise_level=1.0, resample=2)
    request = dict(num=8, labels="0,1,2,3,4,5,6,7", seed=3, batch_size=8)
    if "labels" in changes:
        request["labels"] = ""
    edit = Edit(images, **fields | changes)
    with np.load(sample(config, workdir, out, request, edit=edit) / "samples.npz") as archive:
        return archive["arr_0"], archive["labels"]


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)


def test_inpainting_keeps_what_is_given(workdir, tmp_path):
    redraw = parse_mask("left", (8, 8))
    config, classes = tiny.config(**CONFIG), np.array([7, 8, 9], np.int32)
    images, labels = edited(
        workdir, tmp_path / "out", IMAGES, config, redraw=redraw, labels=classes
    )
    given = IMAGES[INDICES % 3]
    np.testing.assert_array_equal(images[:, :, 4:], given[:, :, 4:])
    assert levels_apart(images[:, :, :4], given[:, :, :4]) > 50
    assert labels.tolist() == [7, 8, 9, 7, 8, 9, 7, 8]  # those of the images


def test_image_to_image_goes_from_the_image_to_plain_samples(workdir, plain, tmp_path):
    all_new, _ = edited(workdir, tmp_path / "1", IMAGES, tiny.config(**CONFIG))
    assert levels_apart(all_new, plain) <= 1
    config = tiny.config(**CONFIG | {"sampling__steps": 1000})
    nearly, _ = edited(workdir, tmp_path / "0", IMAGES, config, noise_level=0.001)
    assert levels_apart(nearly, IMAGES[INDICES % 3]) <= 2


def shown(config, workdir, kind, changes=None, **options) -> Path:
    """The picture of a kind, of sampling with these changes."""
    changes = changes or {}
    config.sampling.update(changes)
    return show.show(
        config, workdir, kind, changes=changes, command="python -m launch.sample", **options
    )


def test_show_writes_the_picture_and_its_words(workdir, tmp_path):
    config = tiny.config()
    path = shown(config, workdir, "sweep", out=tmp_path, num=2, labels="3,5,7")
    assert path == tmp_path / "pictures" / "sweep.png"
    with Image.open(path) as image:
        assert image.size[0] == 3 * 50
    (picture,) = read_pictures(tmp_path)
    assert (picture.section, picture.step) == ("samples", 2)
    assert not (workdir / "pictures").exists()


@pytest.mark.parametrize(
    "kind, fields, changes, message",
    [
        ("guidance", dict(objective__label_dropout=0.0), {}, "needs a run with label dropout"),
        ("sweep", dict(model__num_classes=0), {}, "sweep compares classes, and this run's model"),
        ("interpolate", {}, dict(sampler="ddpm"), "--sampler is ddpm, which adds noise"),
        ("steps", {}, dict(steps=5), "leave out --sampler and --steps"),
        ("steps", {}, dict(spacing="even"), "leave out --spacing"),
    ],
)
def test_what_cannot_be_shown_is_refused(workdir, kind, fields, changes, message):
    assert kind in KINDS
    with pytest.raises(UserError, match=message):
        shown(tiny.config(**fields), workdir, kind, changes)


def test_quality_needs_two_samples(run):
    with pytest.raises(UserError, match="num is 1: it must be at least 2"):
        quality.measure(run, 1)


def test_quality_of_the_data_themselves_is_perfect(run, monkeypatch, tmp_path):
    """Every sampler is drawn at every number of passes; the data stand in for the samples."""
    drawn = []

    def draw(self, indices, labels):
        drawn.append((self.experiment.sampling.sampler, self.experiment.sampling.steps))
        return digits("train").images

    monkeypatch.setattr(type(run), "draw", draw)
    monkeypatch.setattr(quality, "PASSES", (5, 10))
    found = quality.measure(run, 1500)
    assert {sampler for sampler, _ in drawn} == {"ddpm", "ddim", "dpmpp_2m", "heun"}
    assert [steps for sampler, steps in drawn if sampler == "heun"] == [3, 5]
    assert [passes for passes, _ in found.curves["heun"]] == [5, 9]
    assert all(distance < 1e-9 for points in found.curves.values() for _, distance in points)
    assert found.real > 0.01
    quality.plot(found._replace(curves={"ddim": [(5, 2.0), (10, 1.0)]}), tmp_path / "steps.png")
    assert (
        "ddim 1 (10)" in found._replace(curves={"ddim": [(5, 2.0), (10, 1.0)]}).values()["lowest"]
    )


def test_larger_images_are_averaged_over_boxes():
    images = np.zeros((1, 16, 17, 1), np.uint8)
    images[0, :2, :3] = 255
    found = quality.features(images).reshape(8, 8)
    assert found[0, 0] == 1
    assert found.sum() == 1
