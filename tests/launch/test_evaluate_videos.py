"""FVD of a run: what is compared, and that the command says what it found."""

import json

import numpy as np
import pytest
import tiny
from absl import flags
from numpy_i3d import random_tensors
from parsed import parsed

from diffusion_jax.data.arrays import Arrays
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import fvd
from diffusion_jax.evaluation.results import Result
from diffusion_jax.experiment import scoring
from diffusion_jax.experiment.training import train
from launch import evaluate_videos
from launch.common.options import define_samples

VIDEOS = np.random.default_rng(0).integers(0, 256, (6, 16, 4, 4, 3), np.uint8)


def pixels(videos: np.ndarray) -> np.ndarray:
    """400 of a video's own pixels stand in for I3D's logits."""
    return videos.reshape(len(videos), -1)[:, :400] / 255


def test_given_frames_and_drawn_ones_are_one_video(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "VIDEO_BATCH", 4)
    source, about = Arrays(VIDEOS, None), Result(config="", command="a test")
    for drawn, is_same in ((VIDEOS[:, 5:], True), (255 - VIDEOS[:, 5:], False)):
        np.savez(tmp_path / "samples.npz", arr_0=drawn)
        scored = scoring.score_videos(tmp_path, source, pixels, "weights", about)
        assert scored.metrics["fvd"] < 1e-6 if is_same else scored.metrics["fvd"] > 1


def options(workdir, weights) -> flags.FlagValues:
    def define() -> None:
        define_samples(num=8)
        flags.DEFINE_string("i3d", "", "")

    return parsed(define, f"--workdir={workdir}", f"--i3d={weights}", "--batch_size=8")


def test_a_run_is_sampled_and_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fvd, "SIDE", 16)
    np.savez(tmp_path / "videos.npz", images=VIDEOS)
    np.savez(tmp_path / "i3d.npz", **random_tensors())
    config = tiny.config(
        data__name="npz",
        data__path=str(tmp_path / "videos.npz"),
        model__num_classes=0,
        train__steps=1,
        train__batch_size=8,
    )
    config.model.geometry = dict(
        kind="video",
        frames=16,
        height=4,
        width=4,
        channels=3,
        patch_size=4,
        frames_per_patch=2,
        conditioning_frames=5,
    )
    train(config, tmp_path / "run", name="rin/kinetics600")
    evaluate_videos.main(options(tmp_path / "run", tmp_path / "i3d.npz"))
    assert "| RIN |" in capsys.readouterr().out  # the paper's row
    (path,) = (tmp_path / "run").rglob("results.json")
    result = json.loads(path.read_text())
    assert result["metrics"]["fvd"] > 0
    assert result["counts"] == {"samples": 8, "reference": 8}
    config.model.geometry.update(frames=8)
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    with pytest.raises(UserError, match=r"FVD is of RGB videos of at least 16 frames"):
        evaluate_videos.main(options(tmp_path / "run", tmp_path / "i3d.npz"))
