"""Videos that play side by side: GIF by Pillow, MP4 by PyAV (the extra `video`)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusion_jax.reporting.grids import grid_columns, image_grid
from diffusion_jax.storage.files import write_atomically

RATE = 8  # frames per second
BT709, SRGB, LIMITED = 1, 13, 1  # matrix and primaries, transfer and range in ITU-T H.273


def video_grid(videos: np.ndarray, given: int = 0) -> np.ndarray:
    """Tile videos in full rows.

    Args:
      videos: (N, T, H, W, C) uint8.
      given: number of first frames that were given; a coloured line is around them.

    Returns:
      (T, rows, columns, 3) uint8.
    """
    columns = grid_columns(len(videos))
    return np.stack(
        [
            image_grid(frames, columns, marked=frame < given)
            for frame, frames in enumerate(videos.swapaxes(0, 1))
        ]
    )


def save_gif(path: Path, videos: np.ndarray, given: int = 0) -> None:
    """Write `video_grid` as a GIF that plays for ever, atomically."""
    first, *rest = (Image.fromarray(frame) for frame in video_grid(videos, given))
    options: dict[str, Any] = dict(
        format="gif", save_all=True, append_images=rest, duration=1000 // RATE, loop=0
    )
    write_atomically(path, lambda partial: first.save(partial, **options))


def can_write_mp4() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def save_mp4(path: Path, videos: np.ndarray, given: int = 0) -> None:
    """Write `video_grid` as H.264, a white row or column added where a side is odd.

    Colours are coded by BT.709 and tagged as such, so that players need not guess.
    """
    import av  # imported here: it is an extra

    frames = video_grid(videos, given)
    odd = [(0, side % 2) for side in frames.shape[1:3]]
    frames = np.pad(frames, ((0, 0), *odd, (0, 0)), constant_values=255)

    def write(partial: Path) -> None:
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"crf": "16"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            coded = stream.codec_context
            coded.colorspace = coded.color_primaries = BT709
            coded.color_trc, coded.color_range = SRGB, LIMITED
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace=BT709)
                container.mux(stream.encode(picture))
            container.mux(stream.encode())

    write_atomically(path, write)
