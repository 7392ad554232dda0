"""Videos go through the same commands: a run that continues two given frames."""

import numpy as np
import tiny
from PIL import Image

from launch import train
from launch.sample import sample


def test_training_and_continuing_given_frames(tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "videos.npz", images=videos)
    config = tiny.config(
        data__name="npz",
        data__path=str(tmp_path / "videos.npz"),
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
    train.run(config, tmp_path / "run")
    request = dict(num=3, labels="", seed=0, batch_size=3)
    out = sample(config, tmp_path / "run", None, request)
    with np.load(out / "samples.npz") as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].shape == (3, 3, 4, 4, 1)
    grid = np.asarray(Image.open(out / "grid.png"))
    assert grid.shape == (3 * 34, 3 * 34, 3)  # a row of frames for each sample
