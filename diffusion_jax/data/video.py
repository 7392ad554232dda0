"""Frames of video files, by PyAV (the extra `video`)."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from diffusion_jax.data.images import check_frames
from diffusion_jax.data.records import BadRecord, decoding
from diffusion_jax.errors import UserError
from diffusion_jax.files import open_regular

FORMATS = ("mov", "mp4", "avi", "matroska", "webm")  # of the files that `ClipFolder` takes
UPRIGHT = {  # the display matrix, in degrees counterclockwise
    90: Image.Transpose.ROTATE_90,
    -90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
}


def count_frames(path: Path) -> int:
    """Frames that decoding gives, counted by reading the file without decoding it.

    The count of the header is not used: WebM has none, and an edit list may hide frames. A WebM or
    AVI that was cut off counts as a shorter clip.

    Raises:
      BadRecord: for a file that is not a video or is cut off.
      UserError: if PyAV is not installed.
    """
    count = 0
    with _open(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise BadRecord("is cut off or damaged: replace or remove it")
            if packet.size and not packet.is_discard:  # the last one is empty and flushes
                count += 1
    return count


def read_frames(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    """The frames at these places of the display order, as RGB images, turned upright.

    Decodes from the first frame on, since a seek lands on the nearest keyframe that the container
    knows of, and converts the frames asked for only.

    Raises:
      BadRecord: for a file that is not a video, is damaged, or ends before the last of them.
      UserError: if PyAV is not installed.
    """
    images, last, count = {}, max(indices), 0
    with _open(path) as (container, stream):
        check_frames(len(set(indices)), stream.width or 0, stream.height or 0)
        for place, frame in enumerate(container.decode(stream)):
            count = place + 1
            if place in indices:
                image = frame.to_image()
                turn = UPRIGHT.get(frame.rotation)
                images[place] = image if turn is None else image.transpose(turn)
            if place == last:
                break
        else:
            raise BadRecord(f"frame {last} was asked for and {count} frames decode: encode it anew")
    return [images[index] for index in indices]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple]:
    """(container, video stream); whatever goes wrong inside is a `BadRecord`."""
    try:
        import av  # imported here: it is an extra
    except ImportError as error:
        raise UserError(
            f"{path.name}: videos need PyAV: pip install 'rin-diffussm-jax[video]'"
        ) from error
    # An open file is no URL, and a whitelisted format no list of other files to read.
    options = {"format_whitelist": ",".join(FORMATS)}
    with (
        decoding(),
        open_regular(path) as file,
        av.open(file, container_options=options) as container,
    ):
        if not container.streams.video:
            raise BadRecord("has no video in it: remove it")
        stream = container.streams.video[0]
        stream.codec_context.options = {
            "err_detect": "explode",  # a damaged frame raises instead of being painted over
            "max_pixels": str(Image.MAX_IMAGE_PIXELS or 2**31 - 1),
        }
        stream.thread_type = "NONE"  # the loader has threads of its own
        yield container, stream
