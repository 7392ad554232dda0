"""Data sets by name: what a config's `data` section stands for, checked against its model."""

import dataclasses
from typing import Protocol

import numpy as np

from diffusion_jax.data import arrays
from diffusion_jax.data.clips import ClipFolder
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Clips, Images, Latents, Records
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.skipping import ON_BAD_RECORD, Skipping
from diffusion_jax.errors import UserError, check_at_least, check_choice

SOURCES = ("digits", "npz", "folder", "clips", "tfds")


class Source(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """One example, the same for the same arguments.

        Args:
          mirrored: left to right.
          at: in [0, 1): where a window starts in a clip that is longer.

        Returns:
          'images' uint8 (H, W, C) or (T, H, W, C), or 'moments' float32 (h, w, 2c); and 'labels',
          an int32 scalar, if there are any.

        Raises:
          BadRecord: naming the file that cannot be read.
        """
        ...

    def fingerprint(self) -> str:
        """The same for the same data, wherever they lie."""
        ...


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and what becomes of them before they reach the model.

    Attributes:
      name: 'digits', the real handwritten digits of scikit-learn; 'npz', a file of arrays;
        'folder', of images; 'clips', a folder of videos; 'tfds', a directory that launch.prepare or
        TFDS prepared, or the name of a prepared set.
      path: of the file or folder, or the name.
      split: of a TFDS directory, or 'train' or 'held_out' of the digits.
      crop: how images become the model's size: 'centre' (RIN) or 'box_halving' (ADM, DiT).
      frame_stride: from one frame of a training clip to the next.
      flip: mirror half of the examples left to right.
      on_bad_record: 'stop' at a record that cannot be read, or 'skip' it (see `Skipping`).

    Raises:
      UserError: on construction, for an unknown name or number.
    """

    name: str
    path: str = ""
    split: str = "train"
    crop: str = "centre"
    frame_stride: int = 1
    flip: bool = False
    on_bad_record: str = "stop"

    def __post_init__(self):
        check_choice("data.name", self.name, SOURCES)
        check_choice("data.crop", self.crop, CROPS)
        check_choice("data.on_bad_record", self.on_bad_record, ON_BAD_RECORD)
        check_at_least("data.frame_stride", self.frame_stride, 1)
        if self.name != "digits" and not self.path:
            raise UserError("data.path is empty: give the file or folder with --config.data.path")


def open_source(
    config: DataConfig,
    example_shape: tuple[int, ...] | None,
    num_classes: int,
    *,
    latents: bool = False,
) -> Source:
    """Opens a data set and checks that it fits its model.

    Args:
      example_shape: what the model was configured for: (H, W, C), (T, H, W, C), or (h, w, 2c) of
        moments; None takes arrays of any shape.
      num_classes: of the model; 0 ignores the labels.
      latents: the model wants moments.

    Raises:
      UserError: for files that cannot be read, or data that do not fit the model.
    """
    if config.name == "digits":
        return arrays.digits(config.split)
    if config.name == "npz":
        return arrays.npz(config.path, example_shape, num_classes)
    kind = "latent" if latents else {3: "image", 4: "video"}[len(example_shape)]
    found, records = open_records(config)
    if found != kind:
        raise UserError(
            f"{config.path}: holds examples of kind {found}, and the model wants {kind}: change "
            "config.data, or config.model.geometry.kind and config.autoencoder.name"
        )
    _check_classes(config.path, records.class_names, num_classes)
    labelled = num_classes > 0
    if kind == "image":
        source = Images(records, example_shape, config.crop, labelled)
    elif kind == "video":
        source = Clips(records, example_shape, config.crop, config.frame_stride, labelled)
    elif records.spec.shape == example_shape:
        source = Latents(records, labelled)
    else:
        raise UserError(
            f"{config.path}: moments have shape {records.spec.shape}, and config.model.geometry is "
            f"made for {example_shape}: change one of the two"
        )
    return Skipping(source) if config.on_bad_record == "skip" else source


def open_records(config: DataConfig) -> tuple[str, Records]:
    """Return the kind of examples ('image', 'video' or 'latent') and the records on disk.

    Raises:
      UserError: for a folder or TFDS directory that cannot be read; under on_bad_record='stop' also
        for a file in a folder that is not there or no regular file.
    """
    if config.name in ("folder", "clips"):
        is_images = config.name == "folder"
        records = ImageFolder(config.path) if is_images else ClipFolder(config.path)
        if config.on_bad_record == "stop":
            records.check_files()
        return "image" if is_images else "video", records
    from diffusion_jax.data.prepared import Prepared, find_directory  # TFDS takes a second

    prepared = Prepared(find_directory(config.path), config.split)
    return prepared.spec.kind, prepared


def _check_classes(where: str, names: tuple[str, ...] | None, num_classes: int) -> None:
    if num_classes and not names:
        raise UserError(f"{where}: there are no labels: set config.model.num_classes=0 or add them")
    if num_classes and len(names) > num_classes:
        raise UserError(
            f"{where}: has {len(names)} classes, and config.model.num_classes is {num_classes}: "
            f"set it to {len(names)}"
        )
