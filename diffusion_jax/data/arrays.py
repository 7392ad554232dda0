"""Data sets of arrays in memory: .npz files, and the digits of scikit-learn."""

import hashlib

import numpy as np

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.npz import array_names, read_arrays

DIGITS_TRAIN = 1500  # of 1,797; the rest is held out
SPLITS = ("train", "held_out")


class Arrays:
    """A `Source` of images or videos, and labels.

    Attributes:
      images: (N, H, W, C) or (N, T, H, W, C) uint8.
      labels: (N,) int32, or None.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray | None):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """Example `index`; there is nothing to choose by `at`."""
        image = self.images[index]
        example = {"images": image[..., ::-1, :] if mirrored else image}
        if self.labels is not None:
            example["labels"] = self.labels[index]
        return example

    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for array in (self.images, self.labels):
            if array is not None:
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def digits(split: str) -> Arrays:
    """The 1,797 real 8 x 8 handwritten digits, 'train' or 'held_out', split by a fixed permutation.

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


def npz(
    path: str, example_shape: tuple[int, ...] | None = None, num_classes: int | None = None
) -> Arrays:
    """A file of arrays: 'images' (or `arr_0`) uint8 (N, *example_shape), 'labels' integers (N,).

    Args:
      example_shape: what the model was configured for; None takes images or videos of any size.
      num_classes: of the model; 0 ignores the labels, None takes what labels there are.

    Raises:
      UserError: for an unreadable file, or arrays that do not fit the model.
    """
    images, labels = _load(path)
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images are {images.dtype}: give uint8, 0 to 255")
    if example_shape is None and (images.ndim not in (4, 5) or images.shape[-1] not in (1, 3)):
        raise UserError(
            f"{path}: images have shape {images.shape}: give (N, height, width, channels), or "
            "(N, frames, height, width, channels), with 1 or 3 channels"
        )
    if example_shape is not None and images.shape[1:] != tuple(example_shape):
        raise UserError(
            f"{path}: images have shape {images.shape[1:]}, and config.model.geometry is made for "
            f"{tuple(example_shape)}: change one of the two"
        )
    if len(images) == 0:
        raise UserError(f"{path}: there are no images in it")
    if num_classes == 0 or (num_classes is None and labels is None):
        return Arrays(images, None)
    return Arrays(images, _checked_labels(labels, len(images), num_classes, path))


def _checked_labels(labels, count: int, num_classes: int | None, where: str) -> np.ndarray:
    if labels is None:
        raise UserError(f"{where}: there are no labels: set config.model.num_classes=0 or add them")
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where}: labels are {labels.dtype} of shape {labels.shape}: give {count} integers"
        )
    num_classes = labels.max() + 1 if num_classes is None else num_classes
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise UserError(
            f"{where}: label {labels[outside[0]]} of image {outside[0]} is outside the "
            f"{num_classes} classes 0 to {num_classes - 1}: set config.model.num_classes"
        )
    return labels.astype(np.int32)


def _load(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    names = array_names(path)
    images = next((name for name in ("images", "arr_0") if name in names), None)
    if images is None:
        raise UserError(f"{path}: no array 'images' among {sorted(names)}: rename yours")
    arrays = read_arrays(path, *{images, "labels"} & set(names))
    return arrays[images], arrays.get("labels")
