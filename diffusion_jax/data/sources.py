"""Data sets as random access: indices give a batch of arrays."""

import zipfile
from pathlib import Path
from typing import Protocol

import numpy as np

from diffusion_jax.errors import UserError, check_choice

SOURCES = ("digits", "npz")
DIGITS_TRAIN = 1500  # of 1,797; the rest is held out


class Source(Protocol):
    """What the stream needs.

    `source[indices]` (B,) gives {'images': (B, ...) uint8, 'labels': (B,) int32 if there are any}.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...


class Arrays:
    """Images and labels in memory.

    Attributes:
      images: (N, H, W, C) or (N, T, H, W, C) uint8.
      labels: (N,) int32, or None.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        batch = {"images": self.images[indices]}
        if self.labels is not None:
            batch["labels"] = self.labels[indices]
        return batch


def load_source(
    name: str, path: str, example_shape: tuple[int, ...], num_classes: int, split: str = "train"
) -> Arrays:
    """Opens and checks a data set.

    Args:
      name: 'digits', the real handwritten digits of scikit-learn, or 'npz'.
      path: of the .npz: 'images' (N, *example_shape) uint8 (or `arr_0`), 'labels' (N,) integers.
      example_shape: what the model was configured for.
      num_classes: of the model; 0 ignores the labels.
      split: of the digits: 'train' or 'held_out'.

    Raises:
      UserError: for an unknown name, an unreadable file, or data that do not fit the model.
    """
    check_choice("data.name", name, SOURCES)
    images, labels = _digits(split) if name == "digits" else _npz(path)
    where = path if name == "npz" else "digits"
    if images.dtype != np.uint8:
        raise UserError(f"{where}: images are {images.dtype}: give uint8, 0 to 255")
    if images.shape[1:] != tuple(example_shape):
        raise UserError(
            f"{where}: images have shape {images.shape[1:]}, and config.model.geometry is made for "
            f"{tuple(example_shape)}: change one of the two"
        )
    if len(images) == 0:
        raise UserError(f"{where}: there are no images in it")
    if num_classes == 0:
        return Arrays(images, None)
    return Arrays(images, _checked_labels(labels, len(images), num_classes, where))


def _checked_labels(labels, count: int, num_classes: int, where: str) -> np.ndarray:
    if labels is None:
        raise UserError(f"{where}: there are no labels: set config.model.num_classes=0 or add them")
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where}: labels are {labels.dtype} of shape {labels.shape}: give {count} integers"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise UserError(
            f"{where}: label {labels[outside[0]]} of image {outside[0]} is outside the "
            f"{num_classes} classes 0 to {num_classes - 1}: set config.model.num_classes"
        )
    return labels.astype(np.int32)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The 8 x 8 digits as uint8, split by a fixed permutation."""
    from sklearn import datasets  # imported here: it takes a second that only this source needs

    check_choice("data.split", split, ("train", "held_out"))
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    order = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
    images = np.round(digits.images[order] * (255 / 16)).astype(np.uint8)
    return images[..., None], digits.target[order].astype(np.int32)


def _npz(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    if not path:
        raise UserError("data.path is empty: give the .npz with --config.data.path=FILE.npz")
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file: give the .npz with --config.data.path")
    try:
        with Path(path).open("rb") as file, np.load(file) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable .npz ({error}): copy or make it again") from error
    images = arrays.get("images", arrays.get("arr_0"))
    if images is None:
        raise UserError(f"{path}: no array 'images' among {sorted(arrays)}: rename yours")
    return images, arrays.get("labels")
