"""Videos are read in the colours that they were made in, whatever their matrix and range."""

from pathlib import Path

import numpy as np
import pytest

from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.video import read_frames

av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

COLOUR = (30, 200, 60)
KR_KB = {  # weights of red and blue in the luma, by the matrix's number in ITU-T H.273
    1: (0.2126, 0.0722),  # BT.709
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
UNSPECIFIED, LIMITED, FULL = 2, 1, 2
SD, HD = (64, 64), (720, 1280)


def coded(matrix: int, colour_range: int) -> list[int]:
    """Y, Cb and Cr of `COLOUR` in 8 bits, as H.273 defines them."""
    red, green, blue = np.array(COLOUR) / 255
    kr, kb = KR_KB[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = np.array([(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
    if colour_range == FULL:
        return [round(value) for value in (255 * luma, *(128 + 255 * chroma))]
    return [round(value) for value in (16 + 219 * luma, *(128 + 224 * chroma))]


def write(path: Path, values: list[int], tag: int, range_tag: int, size, codec="libx264"):
    """Three frames of one colour, losslessly."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    lossless = {"qp": "0"} if codec == "libx264" else {"lossless": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=lossless)
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        stream.codec_context.colorspace = tag
        stream.codec_context.color_range = range_tag
        for _ in range(3):
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
            frame.colorspace, frame.color_range = tag, range_tag
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def check(path: Path):
    for image in read_frames(path, [0, 2]):
        error = np.abs(np.asarray(image).astype(int) - COLOUR)
        assert error.max() <= 2  # Y, Cb and Cr are rounded to 8 bits


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
def test_tagged(tmp_path, matrix, colour_range, name, codec):
    write(tmp_path / name, coded(matrix, colour_range), matrix, colour_range, SD, codec)
    check(tmp_path / name)


@pytest.mark.parametrize("size, matrix", [(SD, 6), ((576, 1024), 6), (HD, 1), ((578, 64), 1)])
@pytest.mark.parametrize("range_tag", [0, LIMITED, FULL])
def test_untagged_by_size(tmp_path, size, matrix, range_tag):
    values = coded(matrix, FULL if range_tag == FULL else LIMITED)
    write(tmp_path / "a.mp4", values, UNSPECIFIED, range_tag, size)
    check(tmp_path / "a.mp4")


def test_a_tag_without_a_range_is_limited(tmp_path):
    write(tmp_path / "a.mp4", coded(1, LIMITED), 1, 0, SD)
    check(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "name, codec, form", [("a.mov", "png", "rgb24"), ("a.avi", "ffv1", "bgr0")]
)
def test_rgb_needs_no_matrix(tmp_path, name, codec, form):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=8)
        (stream.height, stream.width), stream.pix_fmt = SD, form
        picture = np.broadcast_to(np.uint8(COLOUR), (*SD, 3))
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=form)))
        container.mux(stream.encode())
    check(tmp_path / name)


def test_a_matrix_that_is_not_known_is_named(tmp_path):
    write(tmp_path / "a.mp4", [100, 100, 100], 10, LIMITED, SD)  # BT.2020, constant luminance
    with pytest.raises(BadRecord, match=r"colour matrix 10 of H\.273: encode it anew, by BT\.709"):
        read_frames(tmp_path / "a.mp4", [0])
