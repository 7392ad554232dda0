"""Videos side by side in one file, frame by frame."""

import av
import numpy as np
from PIL import Image

from diffusion_jax.data.video import read_frames
from diffusion_jax.reporting.animation import save_gif, save_mp4, video_grid

VIDEOS = np.zeros((4, 5, 9, 9, 3), np.uint8)
VIDEOS[:, :, ::2] = np.arange(4)[:, None, None, None, None] * 40 + 60
VIDEOS[:, :, :, ::2, 0] = np.arange(5)[:, None, None] * 50


def test_gif_and_mp4_hold_every_frame(tmp_path):
    frames = video_grid(VIDEOS)
    assert frames.shape == (5, 2 * 38, 2 * 38, 3)  # 9 pixels enlarged to 36, and white lines
    save_gif(tmp_path / "videos.gif", VIDEOS)
    with Image.open(tmp_path / "videos.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (5, (76, 76), 0)
        for index, frame in enumerate(frames):
            gif.seek(index)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() < 8
    save_mp4(tmp_path / "videos.mp4", VIDEOS)
    with av.open(str(tmp_path / "videos.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.stack(decoded).shape == frames.shape
    assert np.abs(np.stack(decoded).astype(int) - frames).mean() < 12  # of 255


def test_odd_sides_are_padded(tmp_path):
    save_mp4(tmp_path / "odd.mp4", np.zeros((1, 2, 35, 34, 1), np.uint8))
    with av.open(str(tmp_path / "odd.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.frames) == (38, 36, 2)


def test_mp4_is_tagged_with_the_colours_that_it_is_coded_in(tmp_path):
    colour = np.array([30, 200, 60])
    save_mp4(tmp_path / "solid.mp4", np.broadcast_to(np.uint8(colour), (1, 3, 64, 64, 3)))
    with av.open(str(tmp_path / "solid.mp4")) as container:
        stream = container.streams.video[0].codec_context
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
        planes = next(container.decode(video=0)).to_ndarray()
    assert tags == (1, 13, 1, 1)  # in H.273: BT.709, sRGB, BT.709, limited range
    luma = 16 + 219 / 255 * colour @ [0.2126, 0.7152, 0.0722]  # 148; it is 133 by BT.601
    assert abs(int(planes[30, 30]) - luma) < 2
    for frame in read_frames(tmp_path / "solid.mp4", [0, 2]):
        assert np.abs(np.asarray(frame)[20:40, 20:40] - colour).max() < 5  # x264 is lossy
