"""Features for the Frechet video distance (FVD, arXiv 1812.01717): logits of I3D.

Follows frechet_video_distance of google-research: frames are resized to 224 x 224, whatever their
aspect, by TensorFlow 1's bilinear interpolation, then brought to [-1, 1].
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.i3d import I3D
from diffusion_jax.evaluation.i3d_weights import Pretrained
from diffusion_jax.evaluation.resize import bilinear
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, round_up

WINDOW = 16
SIDE = 224
AT_ONCE = 4


def make_video_extractor(
    pretrained: Pretrained, mesh: Mesh, at_once: int = AT_ONCE
) -> Callable[[np.ndarray], np.ndarray]:
    """A jitted extractor of features.

    Args:
      at_once: windows that each part of the mesh's batch takes at a time.

    Returns:
      videos (B, T, H, W, 3) uint8 -> (B * (T // 16), 400) float32, both on the host: a row for
      every one of `windows(videos)`. It raises what `windows` does.
    """

    def features(params, videos: jax.Array) -> jax.Array:
        frames = bilinear(videos.reshape(-1, *videos.shape[2:]), SIDE)
        videos = frames.reshape(*videos.shape[:2], *frames.shape[1:])
        return I3D().apply({"params": params}, process.to_model_range(videos / 255, 1.0))

    features = jax.jit(
        features,
        in_shardings=(replicated(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    params = jax.device_put(pretrained.params, replicated(mesh))
    batch = at_once * round_up(1, mesh)

    def extract(videos: np.ndarray) -> np.ndarray:
        clips = windows(videos)
        return hosts.in_batches(functools.partial(features, params), clips, batch, mesh)

    return extract


def windows(videos: np.ndarray) -> np.ndarray:
    """Windows of 16 frames, end to end from the first; frames that fill no window are left out.

    Args:
      videos: (B, T, H, W, 3) uint8, T >= 16.

    Returns:
      (B * (T // 16), 16, H, W, 3), a video's windows one after the other.

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
    return videos[:, : count * WINDOW].reshape(-1, WINDOW, *videos.shape[2:])
