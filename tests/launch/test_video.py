"""Videos go through the same commands: a run that continues two given frames."""

import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.drawing import NEXT_WINDOW, open_run
from diffusion_jax.experiment.given import check_windows, read_edit, read_frames
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.training import train
from diffusion_jax.reporting.grids import MARK

REQUEST = dict(num=3, labels="", seed=0, batch_size=3)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    videos = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 4, 1), np.uint8)
    path = tmp_path_factory.mktemp("data") / "videos.npz"
    np.savez(path, images=videos)
    config = tiny.config(
        data__name="npz",
        data__path=str(path),
        model__num_classes=0,
        train__steps=2,
        train__batch_size=8,
    )
    config.model.geometry = dict(
        kind="video",
        frames=5,
        height=4,
        width=4,
        channels=1,
        patch_size=2,
        frames_per_patch=2,
        conditioning_frames=2,
    )
    return config


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(config, workdir)
    return workdir


def test_training_and_continuing_given_frames(config, run):
    out = sample(config, run, None, REQUEST)
    with np.load(out / "samples.npz") as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].shape == (3, 3, 4, 4, 1)
    grid = np.asarray(Image.open(out / "grid.png"))[-3 * 50 :]  # below the heads
    assert grid.shape[1] == 5 * 50  # a row of frames for each sample, those given first
    given = (grid[::50, 25::50] == MARK).all(axis=-1)
    np.testing.assert_array_equal(given, [[True, True, False, False, False]] * 3)
    with Image.open(out / "samples.gif") as gif:
        assert gif.n_frames == 5  # those given, then those drawn
        assert gif.size == (3 * 34, 34)
        lines = []
        for frame in range(5):
            gif.seek(frame)
            lines.append(np.asarray(gif.convert("RGB"))[0, 17].astype(int))
        distance = np.abs(np.array(lines) - MARK).max(axis=1)
        assert (distance[:2] < 8).all() and (distance[2:] > 100).all()
    assert (out / "samples.mp4").stat().st_size > 0


def test_a_labelled_video_is_trained_with_dropped_labels_and_sampled_with_guidance(
    config, tmp_path
):
    """Its label enters with the time, as in the official code, beside frames that are given."""
    with np.load(config.data.path) as archive:
        np.savez(tmp_path / "labelled.npz", images=archive["images"], labels=np.arange(8) % 3)
    labelled = config.copy_and_resolve_references()
    labelled.data.path = str(tmp_path / "labelled.npz")
    labelled.model.update(num_classes=3, condition_on="time")
    labelled.objective.label_dropout = 0.5
    labelled.sampling.guidance = 1.0
    run = tmp_path / "run"
    train(labelled, run)
    assert np.isfinite(tiny.losses(run)).all()
    drawn = []
    for labels in ("0", "2"):
        out = sample(labelled, run, tmp_path / labels, REQUEST | dict(labels=labels))
        drawn.append(np.load(out / "samples.npz")["arr_0"].astype(int))
    assert drawn[0].shape == (3, 3, 4, 4, 1)
    assert np.abs(drawn[0] - drawn[1]).max() > 0


def test_windows_continue_what_was_drawn(config, run, tmp_path):
    clips = np.random.default_rng(1).integers(0, 256, (2, 9, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "clips.npz", images=clips)
    frames = read_frames(str(tmp_path / "clips.npz"), config)
    np.testing.assert_array_equal(frames.images, clips[:, -2:])
    out = sample(config, run, tmp_path / "out", REQUEST, frames=frames, windows=2)
    with np.load(out / "samples.npz") as archive:
        drawn = archive["arr_0"]
    assert drawn.shape == (3, 6, 4, 4, 1)
    opened = open_run(config, run, seed=0, batch_size=8)
    sampler = opened.experiment.sampler(opened.mesh, 0)
    indices = np.arange(8, dtype=np.int32)
    scale = opened.experiment.objective.input_scale
    for first, given, offset in ((0, clips[[0, 1, 0], -2:], 0), (3, drawn[:, 1:3], NEXT_WINDOW)):
        filled = np.resize(given, (8, *given.shape[1:]))
        condition = Condition(frames=process.to_model_range(filled, scale))
        expected = sampler(opened.params, indices + offset, condition)[:3]
        found = drawn[:, first : first + 3].astype(int)
        assert np.abs(found - expected).max() <= 1


def test_frames_of_clips_and_folders(config, tmp_path):
    clip = np.arange(6, dtype=np.uint8)[:, None, None] * 40 + np.zeros((6, 4, 4), np.uint8)
    for index, frame in enumerate(clip):
        path = tmp_path / "frames" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(path)
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "a.npy", clip[..., None])
    np.save(tmp_path / "clips" / "b.npy", clip[::-1, ..., None])
    one = read_frames(str(tmp_path / "frames"), config).images
    np.testing.assert_array_equal(one, clip[None, -2:, ..., None])
    both = read_frames(str(tmp_path / "clips"), config).images
    np.testing.assert_array_equal(both[0], one[0])
    np.testing.assert_array_equal(both[1, ..., 0], clip[1::-1])
    single = read_frames(str(tmp_path / "clips" / "b.npy"), config).images
    np.testing.assert_array_equal(single[0], both[1])


def test_what_cannot_be_continued_is_refused(config, tmp_path):
    np.savez(tmp_path / "short.npz", images=np.zeros((1, 1, 4, 4, 1), np.uint8))
    with pytest.raises(UserError, match=r"the model continues 2 frames of \(4, 4, 1\)"):
        read_frames(str(tmp_path / "short.npz"), config)
    with pytest.raises(UserError, match="there is no such file or folder"):
        read_frames(str(tmp_path / "none.mp4"), config)
    with pytest.raises(UserError, match="model continues no frames"):
        read_frames("", tiny.config())
    with pytest.raises(UserError, match="--extend is 2: this run's model continues no frames"):
        check_windows(2, tiny.config())
    with pytest.raises(UserError, match="this run draws videos"):
        read_edit(config, 4, mask="left")
