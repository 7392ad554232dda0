"""Features of videos: windows, resizing, and independence of batches and devices."""

import functools

import numpy as np
import pytest
from golden import relative_error
from numpy_i3d import Network, random_tensors

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import fvd
from diffusion_jax.evaluation.i3d_weights import Pretrained, params_from_pytorch
from diffusion_jax.parallel.sharding import make_mesh

SMALL = 16  # 224 takes seconds a video on a CPU
VIDEOS = np.random.default_rng(2).integers(0, 256, (2, 37, 20, 28, 3), np.uint8)


@functools.cache
def tensors() -> dict[str, np.ndarray]:
    return random_tensors()


@functools.cache
def pretrained() -> Pretrained:
    return Pretrained(params_from_pytorch(tensors()), "")


def literal_resize(frame: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's bilinear resize of (H, W, C), pixel by pixel."""
    height, width = frame.shape[:2]
    frame = frame.astype(np.float64)
    out = np.zeros((size, size, frame.shape[2]))
    for i, j in np.ndindex(size, size):
        y, x = i * height / size, j * width / size
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = frame[top, left] * (1 - x + left) + frame[top, right] * (x - left)
        lower = frame[bottom, left] * (1 - x + left) + frame[bottom, right] * (x - left)
        out[i, j] = upper * (1 - y + top) + lower * (y - top)
    return out


def test_videos_are_cut_into_windows_end_to_end():
    clips = fvd.windows(VIDEOS)
    assert clips.shape == (4, 16, 20, 28, 3)
    for video in range(2):
        for window in range(2):
            start = 16 * window
            expected = VIDEOS[video, start : start + 16]
            np.testing.assert_array_equal(clips[2 * video + window], expected)


def test_features_are_logits_of_i3d_whatever_the_batch_and_the_devices(monkeypatch):
    monkeypatch.setattr(fvd, "SIDE", SMALL)
    one = fvd.make_video_extractor(pretrained(), make_mesh(1), at_once=3)(VIDEOS)
    eight = fvd.make_video_extractor(pretrained(), make_mesh(fsdp=2), at_once=1)(VIDEOS)
    assert (one.shape, one.dtype) == ((4, 400), np.float32)
    assert relative_error(eight, one) < 1e-5
    network = Network(tensors())
    for features, clip in zip(one, fvd.windows(VIDEOS), strict=True):
        video = np.stack([literal_resize(frame, SMALL) for frame in clip])
        assert relative_error(features, network.logits(2 * video / 255 - 1)) < 1e-5


@pytest.mark.parametrize(
    "videos, message",
    [
        (VIDEOS[:, :15], "videos have 15 frames: give at least 16"),
        (VIDEOS.astype(np.float32), "videos are float32: give uint8"),
        (VIDEOS[0], r"shape \(37, 20, 28, 3\): give \(B, T, H, W, 3\)"),
        (VIDEOS[..., :1], r"shape \(2, 37, 20, 28, 1\)"),
        (VIDEOS[:0], r"shape \(0, 37, 20, 28, 3\): .* none of them 0"),
    ],
)
def test_what_is_no_video_is_refused(videos, message):
    with pytest.raises(UserError, match=message):
        fvd.windows(videos)
