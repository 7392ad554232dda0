"""Sources whose records are decoded when they are read: images, clips, and moments of latents."""

from typing import Protocol

import numpy as np

from diffusion_jax.data.clips import decode_window, window
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.images import decode_image, pixels
from diffusion_jax.data.records import naming

Example = dict[str, np.ndarray]


class Records(Protocol):
    """What lies on disk.

    Attributes:
      class_names: by label; None or () without labels.
    """

    class_names: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def record(self, index: int) -> dict:
        """'image' (bytes), 'clip' (a path), 'video' (a list of bytes) or 'moments'; 'label'."""
        ...

    def name(self, index: int) -> str:
        """Where it lies, for messages."""
        ...

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        ...


class _Encoded:
    def __init__(self, records: Records, shape: tuple[int | None, ...]):
        self._records, self.shape = records, shape

    def __len__(self) -> int:
        return len(self._records)

    @property
    def num_classes(self) -> int:
        """See `Source`."""
        return len(self._records.class_names or ())

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return self._records.fingerprint()

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> Example:
        """See `Source.read`."""
        record = self._records.record(index)
        with naming(self._records.name(index)):
            example = self._decode(record, mirrored, at)
        if "label" in record:
            example["labels"] = record["label"]
        return example

    def _decode(self, record: dict, mirrored: bool, at: float) -> Example:
        raise NotImplementedError


class Images(_Encoded):
    """Images of any size, brought to `shape` (H, W, C) by a crop of `CROPS`."""

    kind = "image"

    def __init__(self, records: Records, shape: tuple[int, ...], crop: str):
        super().__init__(records, shape)
        self._crop = CROPS[crop]

    def _decode(self, record: dict, mirrored: bool, at: float) -> Example:
        height, width, channels = self.shape
        image = pixels(self._crop(decode_image(record["image"], channels), height, width))
        return {"images": image[:, ::-1] if mirrored else image}


class Clips(_Encoded):
    """Windows of clips, every `stride`-th frame, brought to `shape` (T, H, W, C) by a crop."""

    kind = "video"

    def __init__(self, records: Records, shape: tuple[int, ...], crop: str, stride: int):
        super().__init__(records, shape)
        self._crop, self._stride = CROPS[crop], stride

    def _decode(self, record: dict, mirrored: bool, at: float) -> Example:
        frames, height, width, channels = self.shape
        if "clip" in record:
            clip = decode_window(record["clip"], channels, frames, self._stride, at)
        else:
            encoded = record["video"]
            places = window(len(encoded), frames, self._stride, at)
            clip = [decode_image(encoded[place], channels) for place in places]
        clip = np.stack([pixels(self._crop(frame, height, width)) for frame in clip])
        return {"images": clip[:, :, ::-1] if mirrored else clip}


class Latents(_Encoded):
    """Moments (h, w, 2c) of latents, of the image or of its mirror image.

    Attributes:
      scaling: that their autoencoder wants, None where that was not recorded.
    """

    kind = "latent"

    def __init__(self, records: Records, shape: tuple[int, ...]):
        super().__init__(records, shape)
        self.scaling = records.scaling

    def _decode(self, record: dict, mirrored: bool, at: float) -> Example:
        return {"moments": record["moments_flipped" if mirrored else "moments"]}
