"""Frechet video distance (FVD, arXiv 1812.01717): the Frechet distance of the logits of I3D.

Follows frechet_video_distance of google-research: frames are resized to 224 x 224, whatever their
aspect, by TensorFlow 1's bilinear interpolation, then brought to [-1, 1].
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from einops import rearrange

from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.extractor import over_devices
from diffusion_jax.evaluation.frechet import Moments, frechet_distance
from diffusion_jax.evaluation.i3d import CLASSES, I3D
from diffusion_jax.evaluation.i3d_weights import Pretrained
from diffusion_jax.evaluation.resize import bilinear
from diffusion_jax.parallel.sharding import Mesh

WINDOW = 16  # frames that I3D sees at a time
SIDE = 224
AT_ONCE = 4


def frechet_video_distance(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], extract: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Return the FVD of samples that continue the first frames of real videos.

    A sample is scored as one video with the frames that it was given, beside the real video.

    Args:
      pairs: batches of real videos (B, T, H, W, 3) and of the samples (B, T - given, H, W, 3) that
        continue them, both uint8.
      extract: videos (B, T, H, W, 3) -> (windows, 400) features; see `make_video_extractor`.
    """
    real, fake = Moments(CLASSES), Moments(CLASSES)
    for videos, drawn in pairs:
        given = videos[:, : videos.shape[1] - drawn.shape[1]]
        real.update(extract(videos))
        fake.update(extract(np.concatenate([given, drawn], axis=1)))
    return frechet_distance(real.gaussian(), fake.gaussian())


def make_video_extractor(
    pretrained: Pretrained, mesh: Mesh, at_once: int = AT_ONCE
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a jitted extractor of FVD's features.

    Args:
      at_once: windows that each part of the mesh's batch takes at a time.

    Returns:
      videos (B, T, H, W, 3) uint8 -> (B * (T // 16), 400) float32 on the host, a row for each of
      `windows(videos)`; raises what `windows` does.
    """

    def features(params: Any, clips: jax.Array) -> jax.Array:
        frames = bilinear(rearrange(clips, "b t h w c -> (b t) h w c"), SIDE)
        clips = rearrange(frames, "(b t) h w c -> b t h w c", t=WINDOW)
        return I3D().apply({"params": params}, process.to_model_range(clips / 255, 1.0))

    extract = over_devices(features, pretrained.params, mesh, at_once)
    return lambda videos: extract(windows(videos))


def windows(videos: np.ndarray) -> np.ndarray:
    """Cut videos into windows of 16 frames, end to end; frames that fill no window are left out.

    Args:
      videos: (B, T, H, W, 3) uint8, T >= 16.

    Returns:
      (B * (T // 16), 16, H, W, 3), the windows of a video one after the other.

    Raises:
      UserError: for videos that are too short, not uint8 or not RGB, or for none.
    """
    if videos.dtype != np.uint8:
        raise UserError(f"videos are {videos.dtype}: give uint8")
    if videos.ndim != 5 or videos.shape[-1] != 3 or not videos.size:
        raise UserError(f"videos have shape {videos.shape}: give (B, T, H, W, 3), none of them 0")
    count = videos.shape[1] // WINDOW
    if count == 0:
        raise UserError(f"videos have {videos.shape[1]} frames: give at least {WINDOW}")
    return rearrange(videos[:, : count * WINDOW], "b (n t) h w c -> (b n) t h w c", t=WINDOW)
