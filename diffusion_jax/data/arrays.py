"""Data sets of arrays in memory: .npz files, and the digits of scikit-learn."""

import functools
import hashlib

import numpy as np

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.storage.npz import array_names, read_arrays

DIGITS_TRAIN = 1500  # of 1,797; the rest is held out
SPLITS = ("train", "held_out")
MOST_CLASSES = 2**20  # more are taken for identifiers that were given as labels


class Arrays:
    """A `Source` of images or videos, and labels.

    Attributes:
      images: (N, H, W, C) or (N, T, H, W, C) uint8.
      labels: (N,) int32, or None.
      kind, shape, num_classes: see `Source`.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None):
        self.images, self.labels = images, labels
        self.kind, self.shape = "image" if images.ndim == 4 else "video", images.shape[1:]

    @functools.cached_property
    def num_classes(self) -> int:
        """Number of classes: one more than the largest label, 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """Return example `index`, whole: there is nothing to choose by `at`."""
        image = self.images[index]
        example = {"images": image[..., ::-1, :] if mirrored else image}
        if self.labels is not None:
            example["labels"] = self.labels[index]
        return example

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for array in (self.images, self.labels):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def digits(split: str) -> Arrays:
    """Return the real 8 x 8 digits of scikit-learn: 1,500 to train on, or the 297 held out.

    Raises:
      UserError: for another split.
    """
    from sklearn import datasets  # imported here: it takes a second that only this source needs

    check_choice("data.split", split, SPLITS)
    loaded = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.images))
    order = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
    images = np.round(loaded.images[order] * (255 / 16)).astype(np.uint8)
    return Arrays(images[..., None], loaded.target[order].astype(np.int32))


def npz(path: str, *, labelled: bool = True, any_channels: bool = False) -> Arrays:
    """Read a file of arrays: 'images' (or `arr_0`) and 'labels', if there are any.

    Args:
      path: of the .npz; images are uint8 (N, H, W, C) or (N, T, H, W, C), labels see `as_labels`.
      labelled: False ignores the labels.
      any_channels: False takes grey and RGB images alone.

    Raises:
      UserError: for an unreadable file, or arrays of another type or shape.
    """
    names = array_names(path)
    key = next((name for name in ("images", "arr_0") if name in names), None)
    if key is None:
        raise UserError(f"{path}: no array 'images' among {sorted(names)}: rename yours")
    found = read_arrays(path, *{key, "labels"} & set(names))
    images, labels = found[key], found.get("labels")
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images are {images.dtype}: give uint8, 0 to 255")
    if images.ndim not in (4, 5) or not (any_channels or images.shape[-1] in (1, 3)):
        channels = "" if any_channels else ", with 1 or 3 channels"
        raise UserError(
            f"{path}: images have shape {images.shape}: give (N, height, width, channels), or "
            f"(N, frames, height, width, channels){channels}"
        )
    if images.size == 0:
        raise UserError(f"{path}: there are no images in it")
    if labels is None or not labelled:
        return Arrays(images, None)
    return Arrays(images, as_labels(labels, len(images), path))


def as_labels(values: np.ndarray, count: int, where: str) -> np.ndarray:
    """Convert labels to int32, (count,).

    Args:
      values: (count,), or (count, 1) as Keras stores them, of bool or of integers of any width.
      count: the number of examples, at least 1.
      where: the name of the data, for messages.

    Raises:
      UserError: for another shape or type, or a label outside [0, MOST_CLASSES).
    """
    if values.dtype.kind not in "biu" or values.shape not in ((count,), (count, 1)):
        raise UserError(
            f"{where}: labels are {values.dtype} of shape {values.shape}: give {count} integers"
        )
    values = values.reshape(count)
    for place in (values.argmin(), values.argmax()):
        label = int(values[place])  # compared before the cast to int32, which could wrap
        if not 0 <= label < MOST_CLASSES:
            raise UserError(
                f"{where}: label {label} of example {place} is outside 0 to {MOST_CLASSES - 1}: "
                "number the classes from 0"
            )
    return values.astype(np.int32)
