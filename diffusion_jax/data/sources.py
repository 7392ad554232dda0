"""Open the data set that a config's `data` section names, and check it against the model."""

import dataclasses
from typing import Protocol

import numpy as np

from diffusion_jax.console import warn
from diffusion_jax.data import arrays
from diffusion_jax.data.clips import ClipFolder
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Decoded, Records
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.records import ON_BAD_RECORD, BadRecord
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Checked, Location, choice, count, ruled

SOURCES = ("digits", "npz", "folder", "clips", "tfds")
MOST_BAD = 1000  # records in a row that may be skipped before the set is called broken


class Source(Protocol):
    """Examples by index, and what they all have in common."""

    @property
    def kind(self) -> str:
        """'image', 'video', or 'latent'."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every example: (H, W, C), (T, H, W, C), or (h, w, 2c) of moments."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes: labels are 0 to num_classes - 1; 0 if there are none."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """Return one example, the same for the same arguments.

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
        """Return a string that is the same for the same data, wherever they lie."""
        ...


@dataclasses.dataclass(frozen=True)
class DataConfig(Checked):
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
      on_bad_record: 'stop' at a record that cannot be read, or 'skip' it (see `FittedSource`).

    Raises:
      UserError: on construction, for an unknown name or number.
    """

    name: str = choice(SOURCES, "npz")
    path: str = ruled(Location(may_be_empty=True), "")
    split: str = "train"
    crop: str = choice(CROPS, "centre")
    frame_stride: int = count(1)
    flip: bool = False
    on_bad_record: str = choice(ON_BAD_RECORD, "stop")

    def __post_init__(self):
        super().__post_init__()
        if self.name != "digits" and not self.path:
            raise UserError("data.path is empty: give the file or folder with --config.data.path")


class FittedSource:
    """A source that fits its model; every example is checked against what the source declares.

    Args:
      source: any source.
      where: its name, for messages.
      num_classes: of the model; 0 leaves the labels out.
      kind, shape: what the model was configured for; None takes any.
      skip: let the next record that can be read take the place of a bad one.

    Attributes:
      scaling: of latents, None where it was not recorded, and of other data.
      skipped: by index, what is wrong with the records that were left out.

    Raises:
      UserError: if the source declares another kind or shape, or more classes than the model has.
    """

    def __init__(
        self,
        source: Source,
        where: str,
        num_classes: int,
        kind: str | None = None,
        shape: tuple[int, ...] | None = None,
        *,
        skip: bool = False,
    ):
        check_fit(source, where, num_classes, kind, shape)
        self.kind, self.shape = source.kind, tuple(source.shape)
        self.num_classes = source.num_classes if num_classes else 0
        self.scaling = getattr(source, "scaling", None)
        self.fingerprint, self.skipped = source.fingerprint, {}
        self._source, self._where, self._skip = source, where, skip

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """Return example `index`, or where bad ones are skipped the first good one from there on.

        Raises:
          BadRecord: for an example that cannot be read, or is not what was declared.
          UserError: if none of the next `MOST_BAD` can be read.
        """
        if not self._skip:
            return self._checked(index, mirrored, at)
        for tried in range(min(len(self), MOST_BAD)):
            chosen = (index + tried) % len(self)
            try:
                return self._checked(chosen, mirrored, at)
            except BadRecord as error:
                if chosen not in self.skipped:
                    self.skipped[chosen] = str(error)
                    warn(f"skipped: {error} ({len(self.skipped)} so far)")
        raise UserError(f"none of the {tried + 1} records from {index} on can be read")

    def _checked(self, index: int, mirrored: bool, at: float) -> dict[str, np.ndarray]:
        example = self._source.read(index, mirrored=mirrored, at=at)
        field, dtype = ("moments", "float32") if self.kind == "latent" else ("images", "uint8")
        found = example[field]
        if found.shape != self.shape or found.dtype != dtype:
            raise BadRecord(
                f"{self._where}, example {index}: {field} are {found.dtype} of shape "
                f"{found.shape}, not {dtype} of {self.shape}: replace or remove it"
            )
        if not self.num_classes:
            return {field: found}
        label = np.asarray(example.get("labels"))
        if label.shape or label.dtype.kind not in "iu" or not 0 <= label < self.num_classes:
            raise BadRecord(
                f"{self._where}, example {index}: its label is {label}, and the classes are 0 to "
                f"{self.num_classes - 1}: replace or remove it"
            )
        return {field: found, "labels": label.astype(np.int32)[()]}


def check_fit(
    source: Source,
    where: str,
    num_classes: int,
    kind: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Raise `UserError` where a source and a model are made for different things.

    The arguments are those of `FittedSource`. A model may have more classes than its data.
    """
    if kind is not None and source.kind != kind:
        raise UserError(
            f"{where}: holds examples of kind {source.kind}, and the model wants {kind}: change "
            "config.data, or config.model.geometry.kind and config.autoencoder.name"
        )
    if shape is not None and tuple(source.shape) != tuple(shape):
        raise UserError(
            f"{where}: examples have shape {tuple(source.shape)}, and config.model.geometry is "
            f"made for {tuple(shape)}: change one of the two"
        )
    if not num_classes:
        return
    found = source.num_classes
    if not found:
        raise UserError(
            f"{where}: there are no labels: set config.model.num_classes=0, or give a sub-folder "
            "to each class, 'labels' in an .npz, or an integer 'label' in a TFDS directory"
        )
    if found > num_classes:
        raise UserError(
            f"{where}: has {found} classes, and config.model.num_classes is {num_classes}: "
            f"set it to {found}, or give labels below {num_classes}"
        )


def open_source(
    config: DataConfig,
    example_shape: tuple[int, ...] | None,
    num_classes: int,
    *,
    latents: bool = False,
) -> FittedSource:
    """Open a data set and check that it fits its model.

    Args:
      example_shape: what the model was configured for: (H, W, C), (T, H, W, C), or (h, w, 2c) of
        moments; None takes arrays of any shape.
      num_classes: of the model; 0 ignores the labels.
      latents: the model wants moments.

    Raises:
      UserError: for files that cannot be read, or data that do not fit the model.
    """
    kind = None
    if example_shape is not None:
        kind = "latent" if latents else {3: "image", 4: "video"}[len(example_shape)]
    source: Source
    if config.name == "digits":
        source = arrays.digits(config.split)
    elif config.name == "npz":
        any_channels = example_shape is not None
        source = arrays.npz(config.path, labelled=num_classes > 0, any_channels=any_channels)
    else:
        records = open_records(config)
        shape = records.shape or example_shape
        if shape is None:
            raise UserError(f"{config.path}: give the shape that its examples are to be cropped to")
        source = Decoded(records, shape, config.crop, config.frame_stride)
    skip = config.on_bad_record == "skip"
    where = config.path or config.name
    return FittedSource(source, where, num_classes, kind, example_shape, skip=skip)


def open_records(config: DataConfig) -> Records:
    """Open the records of a data set on disk.

    Raises:
      UserError: for a folder or TFDS directory that cannot be read; under on_bad_record='stop' also
        for a file in a folder that is not there or no regular file.
    """
    if config.name in ("folder", "clips"):
        records = (ImageFolder if config.name == "folder" else ClipFolder)(config.path)
        if config.on_bad_record == "stop":
            records.check_files()
        return records
    from diffusion_jax.data.prepared import Prepared, find_directory  # TFDS takes a second

    return Prepared(find_directory(config.path), config.split)
