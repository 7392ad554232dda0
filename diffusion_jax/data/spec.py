"""Describe the examples of a prepared data set, to ourselves and to TFDS."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.storage.untrusted import check_utf8

KINDS = ("image", "video", "latent")
MOMENTS = ("moments", "moments_flipped")


@dataclasses.dataclass(frozen=True)
class Spec:
    """Kind, shape and classes of the examples.

    Attributes:
      kind: 'image', 'video', or 'latent': what an autoencoder's encoder gives.
      shape: (H, W, C) or (T, H, W, C), uint8 once decoded; or (h, w, 2c), means and log variances,
        float32. None where it differs between examples.
      class_names: by label; None without labels.

    Raises:
      UserError: for an unknown kind, or a class name that occurs twice or that the lines of TFDS's
        label.labels.txt cannot hold.
    """

    kind: str
    shape: tuple[int | None, ...]
    class_names: tuple[str, ...] | None = None

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        for name in self.class_names or ():
            check_utf8(name, "the class")
            if not name.strip() or {"\n", "\r"} & set(name):
                raise UserError(f"the class {name!r} does not fit into a line: rename it")
        names = [name.strip() for name in self.class_names or ()]  # as TFDS reads them
        if repeated := Counter(names) - Counter(set(names)):
            raise UserError(f"classes named twice: {', '.join(repeated)}: name each differently")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides of `shape` that are the same in all examples: all of them, of moments."""
        return tuple(side for side in self.shape if side is not None)

    def features(self) -> tfds.features.FeaturesDict:
        """Return 'image', 'video' (a sequence of images) or both moments; and 'label', if any.

        TFDS reads all of them without TensorFlow, which its Video feature needs.
        """
        if self.kind == "image":
            features = {"image": tfds.features.Image(shape=self.shape)}
        elif self.kind == "video":
            frame = tfds.features.Image(shape=self.shape[1:])
            features = {"video": tfds.features.Sequence(frame, length=self.shape[0])}
        else:
            features = {
                field: tfds.features.Tensor(shape=self.shape, dtype=np.float32, encoding="bytes")
                for field in MOMENTS
            }
        if self.class_names is not None:
            features["label"] = tfds.features.ClassLabel(names=self.class_names)
        return tfds.features.FeaturesDict(features)

    @classmethod
    def of(cls, features: tfds.features.FeaturesDict, where: Path) -> "Spec":
        """Read a spec off anybody's features; a ClassLabel called 'label' names the classes.

        Raises:
          UserError: where there are none of those of `Spec.features`.
        """
        fields = dict(features.items())
        names = None
        if isinstance(label := fields.get("label"), tfds.features.ClassLabel) and label.num_classes:
            names = tuple(label.names)
        if _is_image(fields.get("image")):
            return cls("image", fields["image"].shape, names)
        if isinstance(video := fields.get("video"), tfds.features.Sequence) and _is_image(
            video.feature
        ):
            return cls("video", video.shape, names)
        if all(isinstance(fields.get(field), tfds.features.Tensor) for field in MOMENTS):
            return cls("latent", fields["moments"].shape, names)
        raise UserError(
            f"{where}: its features are {', '.join(fields)}: there must be an 'image' of uint8, a "
            "'video' that is a Sequence of such, or 'moments' and 'moments_flipped'"
        )


def has_labels(features: tfds.features.FeaturesDict) -> bool:
    """Return whether 'label' is a ClassLabel, or one plain integer that is stored as such."""
    label = dict(features.items()).get("label")
    if not isinstance(label, tfds.features.Tensor):
        return False
    stored = label.get_serialized_info()
    return stored.shape in ((), (1,)) and np.dtype(stored.np_dtype).kind in "biu"


def _is_image(feature: object) -> bool:
    return isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8
