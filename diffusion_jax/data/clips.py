"""Find clips, choose the frames of a training example, and decode them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_jax.data import video
from diffusion_jax.data.folders import IMAGES, RecordFolder, has_suffix, list_folder, visible
from diffusion_jax.data.images import (
    LARGEST,
    check_frames,
    decode_image,
    from_pixels,
    open_image,
    to_mode,
)
from diffusion_jax.data.records import BadRecord, decoding, naming
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.storage.untrusted import check_regular, read_regular

CLIPS = (".mp4", ".mov", ".avi", ".webm", ".gif", ".npy")
LARGEST_GIF = 2**28  # bytes; as many as 15 million frames, which are counted in 40 s


class ClipFolder(RecordFolder):
    """Clips in one folder or in one sub-folder to a class.

    A clip is a file (mp4, mov, avi, webm, gif, or npy with uint8 (T, H, W, C)) or a folder of
    frames (png, jpg, jpeg, webp) in the order of their names, numbers by value. What a folder holds
    says what it is: frames, and it is a clip; clips, and it is a class or, if it is `path` itself,
    a set without labels. So the folders of an `ImageFolder` are clips here, not classes.

    Raises:
      UserError: for a folder that is not there or has no clips, an empty class, clip files beside
        folders, folders of which some hold frames and some do not (clips or classes?), frames
        beside anything else or directly in `path`, or any other file.
    """

    kind = "video"

    def __init__(self, path: str | Path):
        super().__init__(path, _list_clips)

    def record(self, index: int) -> dict:
        """Return 'clip', its file or folder of frames, and 'label', if any."""
        return {"clip": self.path / self.name(index), **self.label(index)}

    def _files(self) -> Iterable[str]:
        for name in self._names:
            if (self.path / name).is_dir():
                yield from (f"{name}/{frame}" for frame in visible(self.path / name)[0])
            else:
                yield name


def window(frames_available: int, frames: int, stride: int, u: float) -> np.ndarray:
    """Return the places (frames,) of a window in a clip, every `stride`-th frame of it.

    Args:
      frames_available: in the clip.
      frames: in the window.
      stride: from one frame of the window to the next.
      u: in [0, 1): where the window starts, all starts alike.

    Raises:
      BadRecord: if the clip is shorter than the window.
      UserError: for a window without frames or a stride below 1.
    """
    check_at_least("frames", frames, 1)
    check_at_least("stride", stride, 1)
    needed = (frames - 1) * stride + 1
    starts = frames_available - needed + 1
    if starts < 1:
        raise BadRecord(
            f"has {frames_available} frames, and {frames} frames at stride {stride} need {needed}: "
            "remove it, or ask for fewer frames or a smaller stride"
        )
    return min(int(u * starts), starts - 1) + stride * np.arange(frames)


def decode_window(
    path: Path, channels: int, frames: int, stride: int, u: float
) -> list[Image.Image]:
    """Decode the frames of a window. It raises as `window` and `decode_clip` do."""
    return decode_clip(path, channels, window(count_frames(path), frames, stride, u))


def count_frames(path: Path) -> int:
    """Count the frames of a clip without decoding them. Raise `BadRecord` if that fails."""
    if path.is_dir():
        with decoding():
            return len(_frame_names(path))
    if has_suffix(path.name, (".npy",)):
        return len(_open_npy(path))
    if has_suffix(path.name, (".gif",)):
        with decoding():
            return open_image(read_regular(path, LARGEST_GIF)).n_frames  # type: ignore[attr-defined]  # GIF's class has it
    return video.count_frames(path)


def decode_clip(
    path: Path, channels: int, indices: Iterable[int] | None = None
) -> list[Image.Image]:
    """Decode the frames at `indices`, or all, to mode L (1 channel) or RGB (3), of one size.

    Raises:
      BadRecord: for what cannot be decoded, frames of several sizes, or a clip that ends before the
        last of the indices.
      UserError: if `channels` is neither 1 nor 3, or for a video without PyAV.
    """
    indices = range(count_frames(path)) if indices is None else [int(index) for index in indices]
    if not indices:
        raise BadRecord("has no frames: remove it")
    if path.is_dir():
        clip = _decode_frames(path, channels, indices)
    else:
        clip = [to_mode(image, channels) for image in _read_frames(path, indices)]
    for index, frame in zip(indices, clip, strict=True):
        if frame.size != clip[0].size:
            raise BadRecord(
                f"frame {index} is {frame.height} x {frame.width} and frame {indices[0]} "
                f"{clip[0].height} x {clip[0].width}: frames of a clip have one size"
            )
    return clip


def _decode_frames(folder: Path, channels: int, indices: Sequence[int]) -> list[Image.Image]:
    with decoding():
        names, clip = _frame_names(folder), []
    for index in indices:
        with naming(names[index]), decoding():
            clip.append(decode_image(read_regular(folder / names[index], LARGEST), channels))
        if len(clip) == 1:
            check_frames(len(indices), *clip[0].size)
    return clip


def _read_frames(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    if not has_suffix(path.name, (".npy", ".gif")):
        return video.read_frames(path, indices)
    with decoding():
        if has_suffix(path.name, (".npy",)):
            clip = _open_npy(path)
            check_frames(len(indices), *clip.shape[1:3])
            return [from_pixels(frame) for frame in clip[np.asarray(indices)]]
        gif, frames = open_image(read_regular(path, LARGEST_GIF)), []
        check_frames(len(indices), *gif.size)
        for index in indices:
            gif.seek(index)
            frames.append(gif.copy())
        return frames


def _open_npy(path: Path) -> np.ndarray:
    with decoding():
        check_regular(path)
        clip = np.lib.format.open_memmap(path, mode="r")
    is_clip = clip.dtype == np.uint8 and clip.ndim == 4 and clip.shape[3] in (1, 3)
    if not is_clip or 0 in clip.shape[1:]:
        raise BadRecord(
            f"holds {clip.dtype} of shape {clip.shape}: a clip is uint8 (T, H, W, C), C 1 or 3"
        )
    return clip


def _frame_names(folder: Path) -> list[str]:
    """Return the names of the frames in order: '2.png' before '10.png'."""

    def by_number(name: str) -> tuple[list, str]:
        parts = re.split(r"(\d+)", name)  # text, number, text, number, ...
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], name

    return sorted(visible(folder)[0], key=by_number)


def _list_clips(folder: Path) -> list[str] | None:
    if frame := next((name for name in visible(folder)[0] if has_suffix(name, IMAGES)), None):
        raise UserError(
            f"{folder / frame}: a frame where clips or classes are expected: put the frames of "
            "each clip into a folder of their own"
        )
    files, folders = list_folder(folder, CLIPS)
    clips = [name for name in folders if _holds_frames(folder / name)]
    if clips and len(clips) < len(folders):
        other = next(name for name in folders if name not in clips)
        raise UserError(
            f"{folder}: are its folders clips or classes? {clips[0]} holds frames and is a clip, "
            f"{other} does not: give every clip a class, or none"
        )
    return files or clips or None


def _holds_frames(folder: Path) -> bool:
    """Return whether a folder is a clip. Raise `UserError` if it is more than that, or nothing."""
    files, folders = visible(folder)
    frames = [name for name in files if has_suffix(name, IMAGES)]
    others = [name for name in files if name not in frames] + folders
    if frames and others:
        raise UserError(f"{folder}: {others[0]} lies among the frames of a clip: move it away")
    if not frames:
        list_folder(folder, CLIPS)
    return bool(frames)
