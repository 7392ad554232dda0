"""Clips of every kind give the same frames; windows; every fault by the name of its file."""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.data import clips
from diffusion_jax.data.clips import ClipFolder, count_frames, window
from diffusion_jax.data.images import pixels
from diffusion_jax.data.records import BadRecord, naming
from diffusion_jax.errors import UserError


def decode_clip(*arguments) -> np.ndarray:
    """Its pixels (T, H, W, C)."""
    return np.stack([pixels(frame) for frame in clips.decode_clip(*arguments)])


def decode_window(*arguments) -> np.ndarray:
    return np.stack([pixels(frame) for frame in clips.decode_window(*arguments)])


VIDEOS = [("mp4", "libx264"), ("mov", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")]


def moving(frames: int = 12, height: int = 32, width: int = 48) -> np.ndarray:
    """A clip (T, H, W, 3): a smooth picture that runs to the left, 4 pixels a frame."""
    seeds = np.random.default_rng(0).integers(0, 256, (3, 2 + frames // 2, 3), dtype=np.uint8)
    size = (width + 4 * frames, height)
    picture = np.array(Image.fromarray(seeds).resize(size, Image.Resampling.BICUBIC))
    return np.stack([picture[:, 4 * t : 4 * t + width] for t in range(frames)])


def write_frames(folder: Path, clip: np.ndarray, suffix: str = ".png"):
    folder.mkdir(parents=True)
    for place, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"frame{place}{suffix}")  # 10 after 9, not after 1


def write_gif(path: Path, clip: np.ndarray):
    images = [Image.fromarray(frame) for frame in clip]
    images[0].save(path, save_all=True, append_images=images[1:])


def write_video(path: Path, codec: str, clip: np.ndarray, **options):
    av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "5", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
        for frame in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def nearest_frames(decoded: np.ndarray, clip: np.ndarray) -> list[int]:
    """For every decoded frame, which of the clip's it is nearest to."""
    errors = np.abs(decoded[:, None].astype(float) - clip[None]).mean(axis=(2, 3, 4))
    return errors.argmin(axis=1).tolist()


def test_arrays_and_frames_come_back_bit_for_bit(tmp_path):
    clip = moving()
    write_frames(tmp_path / "frames", clip)
    np.save(tmp_path / "clip.npy", clip)
    for name in ("frames", "clip.npy"):
        np.testing.assert_array_equal(decode_clip(tmp_path / name, 3), clip)
        np.testing.assert_array_equal(decode_clip(tmp_path / name, 3, [9, 2, 2]), clip[[9, 2, 2]])
    grey = decode_clip(tmp_path / "frames", 1)
    np.testing.assert_array_equal(grey[5, ..., 0], np.array(Image.fromarray(clip[5]).convert("L")))
    np.save(tmp_path / "grey.npy", grey)
    np.testing.assert_array_equal(decode_clip(tmp_path / "grey.npy", 1), grey)
    np.testing.assert_array_equal(decode_clip(tmp_path / "grey.npy", 3), grey.repeat(3, axis=-1))
    np.testing.assert_array_equal(decode_clip(tmp_path / "clip.npy", 1), grey)


def test_a_gif_gives_its_frames(tmp_path):
    clip = moving()
    write_gif(tmp_path / "clip.gif", clip)
    assert count_frames(tmp_path / "clip.gif") == 12
    decoded = decode_clip(tmp_path / "clip.gif", 3)
    assert decoded.shape == clip.shape
    assert nearest_frames(decoded, clip) == list(range(12))
    part = decode_clip(tmp_path / "clip.gif", 3, [7, 3])
    np.testing.assert_array_equal(part, decoded[[7, 3]])


@pytest.mark.parametrize("suffix, codec", VIDEOS)
def test_videos_give_their_frames_and_any_window_alike(tmp_path, suffix, codec):
    clip, path = moving(23), tmp_path / f"clip.{suffix}"
    write_video(path, codec, clip)
    assert count_frames(path) == 23
    decoded = decode_clip(path, 3)
    assert decoded.shape == clip.shape
    assert nearest_frames(decoded, clip) == list(range(23))
    for indices in ([22], [0, 5, 10], [21, 4]):
        np.testing.assert_array_equal(decode_clip(path, 3, indices), decoded[indices])
    assert decode_clip(path, 1, [3]).shape == (1, 32, 48, 1)
    np.testing.assert_array_equal(decode_window(path, 3, 4, 3, 0.99), decoded[[13, 16, 19, 22]])


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path):
    av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")
    clip = moving(23)
    write_video(tmp_path / "whole.mp4", "libx264", clip)
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(tmp_path / "trimmed.mp4"), "w") as trimmed,
    ):
        source = whole.streams.video[0]
        stream = trimmed.add_stream_from_template(source)
        start = round(3 / 25 / source.time_base)
        for packet in whole.demux(source):
            if packet.size:  # from frame 3 on: the keyframe before it stays, at a time below 0
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = stream
                trimmed.mux(packet)
    count = count_frames(tmp_path / "trimmed.mp4")
    decoded = decode_clip(tmp_path / "trimmed.mp4", 3)
    assert count == len(decoded) == 20
    assert nearest_frames(decoded, clip) == list(range(3, 23))


def test_a_video_held_upright_is_shown_upright(tmp_path):
    clip = moving()
    write_video(tmp_path / "clip.mp4", "libx264", clip)
    stored = decode_clip(tmp_path / "clip.mp4", 3)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # of the track header: a clockwise quarter turn
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(data)
    shown = decode_clip(tmp_path / "clip.mp4", 3)
    np.testing.assert_array_equal(shown, np.rot90(stored, -1, axes=(1, 2)))


@pytest.mark.parametrize("frames, stride", [(1, 1), (5, 1), (3, 4), (10, 1)])
def test_windows_reach_every_start_alike_and_nothing_else(frames, stride):
    available, needed = 10, (frames - 1) * stride + 1
    draws = [window(available, frames, stride, u) for u in np.linspace(0, 1, 1000, endpoint=False)]
    starts, counts = np.unique([indices[0] for indices in draws], return_counts=True)
    assert starts.tolist() == list(range(available - needed + 1))
    assert np.ptp(counts) <= 1
    for indices in draws:
        assert (np.diff(indices) == stride).all()
        assert len(indices) == frames
        assert indices[-1] < available
    assert window(available, frames, stride, np.nextafter(1, 0))[-1] == available - 1


def test_a_window_that_does_not_fit_is_refused():
    with (
        pytest.raises(
            BadRecord, match=r"^run.mp4: has 10 frames, and 4 frames at stride 4 need 13"
        ),
        naming("run.mp4"),
    ):
        window(10, 4, 4, 0.5)
    with pytest.raises(UserError, match="stride is 0"):
        window(10, 4, 0, 0.5)
    with pytest.raises(UserError, match="frames is 0"):
        window(10, 0, 1, 0.5)


def test_clips_lie_flat_or_in_classes(tmp_path):
    clip = moving(3)
    for name in ("flat/b.npy", "flat/a.npy", "classes/run/0.npy", "classes/jump/1.NPY"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            np.save(file, clip)
    for name in ("frames/b", "frames/a", "frame_classes/run/0", "frame_classes/jump/1"):
        write_frames(tmp_path / name, clip)
    (tmp_path / "frames/a/.DS_Store").write_bytes(b"x")
    for name in ("flat", "frames"):
        folder = ClipFolder(tmp_path / name)
        assert (len(folder), folder.class_names, folder.labels) == (2, None, None)
        assert [Path(folder.name(i)).stem for i in range(2)] == ["a", "b"]
        assert "label" not in folder.record(1)
    for name in ("classes", "frame_classes"):
        folder = ClipFolder(str(tmp_path / name))
        assert folder.class_names == ("jump", "run")
        assert folder.labels.tolist() == [0, 1]
        record = folder.record(1)
        assert record["label"] == 1
        np.testing.assert_array_equal(decode_clip(record["clip"], 3), clip)


def test_the_fingerprint_sees_every_frame(tmp_path):
    write_frames(tmp_path / "a", moving(3))
    fingerprint = ClipFolder(tmp_path).fingerprint()
    assert ClipFolder(tmp_path).fingerprint() == fingerprint
    (tmp_path / "a/frame2.png").unlink()
    assert ClipFolder(tmp_path).fingerprint() != fingerprint


LAYOUTS = [
    ([], r": there is nothing in it: fill it"),
    (["0001.png", "0002.png"], r"0001.png: a frame where clips or classes are expected"),
    (["run/0.npy", "0.npy"], r"0.npy lies beside the folder run"),
    (["a/0.png", "b/0.npy"], r"are its folders clips or classes\? a holds frames and is a clip, b"),
    (["run/a/0.png", "run/b/0.npy"], r"run: are its folders clips or classes\? a holds frames"),
    (["run/0.npy", "jump/"], r"jump: there is nothing in it"),
    (["a/0.png", "b/"], r"b: there is nothing in it"),
    (["run/a/0.png", "jump/b/"], r"b: there is nothing in it"),
    (["run/a/b/0.png"], r"run: this class holds folders of folders"),
    (["a/0.png", "a/deeper/0.png"], r"a: deeper lies among the frames of a clip"),
    (["a/0.png", "a/0.npy"], r"a: 0.npy lies among the frames of a clip"),
    (["a/0.png", "a/notes.txt"], r"a: notes.txt lies among the frames of a clip"),
    (["a.npy", "notes.txt"], r"notes.txt: not one of .mp4, .mov, .avi, .webm, .gif, .npy"),
    (["run/a.npy", "run/notes.txt"], r"run/notes.txt: not one of .mp4"),
]


@pytest.mark.parametrize("names, message", LAYOUTS)
def test_layouts_that_could_mean_two_things_are_refused(tmp_path, names, message):
    for name in names:
        folder = tmp_path / (name if name.endswith("/") else Path(name).parent)
        folder.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message) as error:
        ClipFolder(tmp_path)
    assert "\n" not in str(error.value)


def test_broken_arrays_frames_and_gifs_are_refused(tmp_path):
    clip = moving(3)
    np.save(tmp_path / "float.npy", clip.astype(np.float32))
    np.save(tmp_path / "alpha.npy", np.zeros((3, 4, 4, 4), np.uint8))
    np.save(tmp_path / "flat.npy", np.zeros((3, 0, 4, 3), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    np.save(tmp_path / "cut.npy", clip)
    data = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-100])
    (tmp_path / "empty.gif").write_bytes(b"")
    write_gif(tmp_path / "cut.gif", moving())
    data = (tmp_path / "cut.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[: len(data) // 2])
    write_frames(tmp_path / "sizes", clip)
    Image.new("RGB", (5, 5)).save(tmp_path / "sizes" / "frame1.png")
    write_frames(tmp_path / "cut", clip)
    (tmp_path / "cut/frame2.png").write_bytes(b"")
    for name, message in {
        "float.npy": r"holds float32 of shape \(3, 32, 48, 3\): a clip is uint8 \(T, H, W, C\)",
        "alpha.npy": r"holds uint8 of shape \(3, 4, 4, 4\)",
        "flat.npy": r"holds uint8 of shape \(3, 0, 4, 3\)",
        "objects.npy": "cannot be decoded",
        "cut.npy": "cannot be decoded",
        "empty.gif": "is empty, zero bytes",
        "cut.gif": "cannot be decoded",
        "sizes": "frame 1 is 5 x 5 and frame 0 32 x 48: frames of a clip have one size",
        "cut": "frame2.png: is empty, zero bytes",
        "none.npy": "does not exist",
    }.items():
        with pytest.raises(BadRecord, match=message):
            decode_clip(tmp_path / name, 3)
    np.save(tmp_path / "short.npy", clip)
    with pytest.raises(BadRecord, match=r"cannot be decoded \(IndexError"):
        decode_clip(tmp_path / "short.npy", 3, [3])


def test_broken_videos_are_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, "libx264", moving(23), movflags="faststart")
    data = path.read_bytes()
    with pytest.raises(BadRecord, match="frame 23 was asked for and 23 frames decode"):
        decode_clip(path, 3, [23])
    damaged = bytearray(data)
    damaged[-1500:-1200] = bytes(300)
    for contents, message in {
        b"": "cannot be decoded",
        b"no video": "cannot be decoded",
        data[:-300]: "is cut off or damaged",
        bytes(damaged): "cannot be decoded",
    }.items():
        path.write_bytes(contents)
        with pytest.raises(BadRecord, match=message):
            decode_clip(path, 3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.npy"])
def test_clips_that_are_no_files_do_not_hang(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for reads in (count_frames, lambda path: decode_clip(path, 3, [0])):
        with pytest.raises(BadRecord, match="is a FIFO, not a file"):
            reads(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile real.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder}/real.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=["ffconcat", "HLS"],
)
def test_a_clip_cannot_have_other_files_read(tmp_path, content):
    """FFmpeg goes by the content: a list of files would be played, whatever its name."""
    write_video(tmp_path / "real.mp4", "libx264", moving(5))
    assert count_frames(tmp_path / "real.mp4") == 5
    (tmp_path / "list.mp4").write_text(content.format(folder=tmp_path))
    with pytest.raises(BadRecord, match="cannot be decoded"):
        count_frames(tmp_path / "list.mp4")


def test_clips_too_large_for_the_memory_are_refused_before_they_are_decoded(tmp_path):
    shape = (2**20, 512, 512, 3)  # sparse: it takes no room on the disk
    np.lib.format.open_memmap(tmp_path / "clip.npy", "w+", np.uint8, shape)
    Image.new("P", (8000, 8000)).save(tmp_path / "clip.gif")
    content = (tmp_path / "clip.gif").read_bytes()
    start = content.index(b"\x2c\0\0\0\0")
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"  # one pixel
    (tmp_path / "clip.gif").write_bytes(content[:start] + frame * 5000 + b";")
    for name, count in (("clip.npy", 2**20), ("clip.gif", 5000)):
        assert count_frames(tmp_path / name) == count
        with pytest.raises(BadRecord, match=r"frames of .* GiB, and this machine has .* memory"):
            decode_clip(tmp_path / name, 3)
    assert decode_clip(tmp_path / "clip.npy", 3, [7]).shape == (1, 512, 512, 3)


def test_a_video_of_absurd_size_is_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", "libx264", moving(5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(BadRecord, match="cannot be decoded"):
        decode_clip(tmp_path / "clip.mp4", 3)


def test_videos_say_how_to_install_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[video\]'"):
        count_frames(tmp_path / "clip.mp4")


def test_real_clips_where_they_are_at_hand(tmp_path):
    packed = Path(__file__).parents[4] / "shared" / "data" / "weizmann_actions64.npz"
    if not packed.exists():
        pytest.skip("weizmann_actions64.npz is not in ../shared/data")
    with np.load(packed) as archive:  # frame differences modulo 256, as its README says
        first = int(archive["lengths"][0])
        deltas = archive["delta"].transpose(1, 2, 3, 0)[:first]
    clip = np.cumsum(deltas, axis=0, dtype=np.uint8)
    np.save(tmp_path / "0_000.npy", clip)
    path = ClipFolder(tmp_path).record(0)["clip"]
    assert count_frames(path) == first
    np.testing.assert_array_equal(decode_window(path, 3, 16, 2, 0), clip[:32:2])
