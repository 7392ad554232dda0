"""What launch.prepare writes of a data set: records of encoded images, decoded once to check them.

They are pickled into worker processes, and import no JAX there.
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from diffusion_jax.data.arrays import Arrays
from diffusion_jax.data.clips import decode_clip
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Records
from diffusion_jax.data.images import decode_image, is_plain
from diffusion_jax.data.records import naming


def encode_png(image: Image.Image) -> bytes:
    """Lossless."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@dataclasses.dataclass(frozen=True)
class _Cropped:
    """Attributes:
    records: an `ImageFolder`, a `ClipFolder`, or others like them.
    channels: 1 (grey) or 3 (RGB).
    size: (height, width) to crop to, None to leave images as large as they are.
    crop: a name of `CROPS`.
    """

    records: Records
    channels: int
    size: tuple[int, int] | None
    crop: str

    def __len__(self) -> int:
        return len(self.records)

    def _cropped(self, image: Image.Image) -> Image.Image:
        return CROPS[self.crop](image, *self.size) if self.size else image


class PreparedImages(_Cropped):
    """'image', PNG or JPEG bytes that every reader decodes to what `decode_image` and crop give."""

    def __getitem__(self, index: int) -> dict:
        record = self.records.record(index)
        with naming(self.records.name(index)):
            image = decode_image(record["image"], self.channels)
        if self.size or not is_plain(record["image"], self.channels):
            record["image"] = encode_png(self._cropped(image))
        return record


class PreparedClips(_Cropped):
    """'video', all frames of a clip as PNG."""

    def __getitem__(self, index: int) -> dict:
        record = self.records.record(index)
        with naming(self.records.name(index)):
            frames = decode_clip(record.pop("clip"), self.channels)
        return record | {"video": [encode_png(self._cropped(frame)) for frame in frames]}


@dataclasses.dataclass(frozen=True)
class PreparedArrays:
    """'image' or 'video' of arrays, as PNG."""

    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> dict:
        image, labels = self.arrays.images[index], self.arrays.labels
        record = {} if labels is None else {"label": int(labels[index])}
        if image.ndim == 3:
            return record | {"image": encode_png(_to_image(image))}
        return record | {"video": [encode_png(_to_image(frame)) for frame in image]}


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
