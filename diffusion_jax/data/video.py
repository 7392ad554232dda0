"""Read the frames of video files by PyAV (the extra `video`)."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from diffusion_jax.data.images import check_frames
from diffusion_jax.data.records import BadRecord, decoding
from diffusion_jax.errors import UserError
from diffusion_jax.storage.untrusted import open_regular

FORMATS = ("mov", "mp4", "avi", "matroska", "webm")  # of the files that `ClipFolder` takes
UPRIGHT = {  # the display matrix, in degrees counterclockwise
    90: Image.Transpose.ROTATE_90,
    -90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
}
BT709, BT601 = 1, 5  # the numbers of colour matrices in ITU-T H.273, which FFmpeg shares
MATRICES = {BT709: BT709, 4: 4, BT601: BT601, 6: BT601, 7: 7, 9: 9}  # tag -> swscale's matrix
UNTAGGED = (0, 2, 3)  # RGB (which needs no matrix), unspecified, reserved
LIMITED, FULL = 1, 2  # luma from 16 to 235, or from 0 to 255


def count_frames(path: Path) -> int:
    """Count the frames that decoding would give, by reading the file without decoding it.

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
    """Return the frames at these places of the display order as upright RGB images.

    Decodes from the first frame on, since a seek lands on the nearest keyframe that the container
    knows of, and converts the frames asked for only. Colours are converted by the matrix and the
    range that the video is tagged with. Like the colour profiles of images, its primaries and its
    transfer function are not applied.

    Raises:
      BadRecord: for a file that is not a video, is damaged, ends before the last of them, or has
        a colour matrix that swscale does not know.
      UserError: if PyAV is not installed.
    """
    images, last, count = {}, max(indices), 0
    with _open(path) as (container, stream):
        check_frames(len(set(indices)), stream.width or 0, stream.height or 0)
        for place, frame in enumerate(container.decode(stream)):
            count = place + 1
            if place in indices:
                image = _to_rgb(frame)
                turn = UPRIGHT.get(frame.rotation)
                images[place] = image if turn is None else image.transpose(turn)
            if place == last:
                break
        else:
            raise BadRecord(f"frame {last} was asked for and {count} frames decode: encode it anew")
    return [images[index] for index in indices]


def _to_rgb(frame) -> Image.Image:
    """Convert a frame of PyAV to an RGB image by the frame's own tags.

    The matrix is passed explicitly because PyAV before 17 ignores the tag and takes BT.601 for
    every video. A video without a tag is read as players do: in high definition by BT.709, else by
    BT.601.
    """
    tag = int(frame.colorspace)
    if tag in UNTAGGED:
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    elif tag in MATRICES:
        matrix = MATRICES[tag]
    else:
        raise BadRecord(f"has the colour matrix {tag} of H.273: encode it anew, by BT.709")
    is_full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    return frame.to_image(
        src_colorspace=matrix,
        src_color_range=FULL if is_full else LIMITED,
        # RGB has no matrix; but PyAV before 17 sets the source's only if this one differs from it,
        # or the range does, and takes BT.601 in limited range otherwise.
        dst_colorspace=BT601,
    )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple]:
    """Yield (container, video stream); whatever goes wrong inside is a `BadRecord`."""
    try:
        import av  # imported here: it is an extra
    except ImportError as error:
        raise UserError(f"{path.name}: videos need PyAV: pip install -e '.[video]'") from error
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
