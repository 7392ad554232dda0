"""Decode the images, clips or moments of records when they are read."""

from typing import Protocol

import numpy as np

from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.data.clips import decode_window, window
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.images import decode_image, pixels
from diffusion_jax.data.records import naming

Example = dict[str, np.ndarray]


class Records(Protocol):
    """The examples of a data set as they lie on disk.

    Attributes:
      kind: 'image'; 'video', whose examples are windows of clips; or 'latent', whose moments are
        those of the image or of its mirror image.
      shape: (h, w, 2c) of moments; None for images and clips, which are cropped to any size.
      scaling: that the autoencoder of latents wants; None where that was not recorded, and for
        other data.
    """

    kind: str
    shape: tuple[int, ...] | None
    scaling: Scaling | None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes by label; None or () without labels."""
        ...

    def __len__(self) -> int: ...

    def record(self, index: int) -> dict:
        """Return 'image' (bytes), 'clip' (a path), 'video' ([bytes, ...]) or moments; 'label'."""
        ...

    def name(self, index: int) -> str:
        """Return where a record lies, for messages."""
        ...

    def fingerprint(self) -> str:
        """Return what `Source.fingerprint` does."""
        ...


class Decoded:
    """A `Source` of records: it decodes one when it is read, and crops it to the model's size.

    Args:
      records: on disk.
      shape: of an example; images of any size are brought to it.
      crop: a name of `CROPS`.
      stride: from one frame of a window to the next.

    Attributes:
      kind, scaling, fingerprint: those of the records.
    """

    def __init__(self, records: Records, shape: tuple[int, ...], crop: str, stride: int = 1):
        self.kind, self.shape, self.scaling = records.kind, shape, records.scaling
        self.fingerprint = records.fingerprint
        self._records, self._crop, self._stride = records, CROPS[crop], stride

    def __len__(self) -> int:
        return len(self._records)

    @property
    def num_classes(self) -> int:
        """Number of classes, see `Source`."""
        return len(self._records.class_names or ())

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> Example:
        """Return an example, see `Source.read`."""
        record = self._records.record(index)
        with naming(self._records.name(index)):
            if self.kind == "latent":  # encoded both ways: the autoencoder is not equivariant
                example = {"moments": record["moments_flipped" if mirrored else "moments"]}
            else:
                images = self._image(record) if self.kind == "image" else self._window(record, at)
                example = {"images": images[..., ::-1, :] if mirrored else images}
        if "label" in record:
            example["labels"] = record["label"]
        return example

    def _image(self, record: dict) -> np.ndarray:
        height, width, channels = self.shape
        return pixels(self._crop(decode_image(record["image"], channels), height, width))

    def _window(self, record: dict, at: float) -> np.ndarray:
        """Decode the frames of a window alone, out of a clip on disk or of encoded frames."""
        frames, height, width, channels = self.shape
        if "clip" in record:
            clip = decode_window(record["clip"], channels, frames, self._stride, at)
        else:
            places = window(len(record["video"]), frames, self._stride, at)
            clip = [decode_image(record["video"][place], channels) for place in places]
        return np.stack([pixels(self._crop(frame, height, width)) for frame in clip])
