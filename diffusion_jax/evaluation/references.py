"""Statistics of a data set that samples are compared with, and of whom they are."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import ArrayOnDisk, load_archive, save_archive
from diffusion_jax.evaluation.checks import check_features
from diffusion_jax.evaluation.frechet import Gaussian
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.npz import array_names, read_arrays
from diffusion_jax.storage.schemas import REFERENCE

KIND = "reference statistics"
# guided-diffusion's names, so that its tools read our files.
_STATISTICS, _FEATURES = ("mu", "sigma", "mu_s", "sigma_s"), "features"


class Extraction(NamedTuple):
    """How features were made; None is unknown.

    Attributes:
      resolution: (height, width) of the images before the network's own resize.
      resize: name of the convention of that resize.
      weights: SHA-256 of the network's weights.
    """

    resolution: tuple[int, int] | None
    resize: str | None
    weights: str | None


class Reference(NamedTuple):
    """Statistics of a data set.

    Attributes:
      pool: of the pool features, for FID.
      spatial: of the spatial features, for sFID.
      features: (n, d) float32 pool features of some of its images, for precision and recall, and
        KID; None where there are none.
      extraction: how the features were made.
      count: images behind the statistics; None where it is unknown.
      fingerprint: of the data, or of the file that was imported.
      crop: how the images were cropped to the resolution; None where it is unknown.
    """

    pool: Gaussian
    spatial: Gaussian
    features: np.ndarray | None
    extraction: Extraction
    count: int | None
    fingerprint: str
    crop: str | None

    def about(self) -> dict:
        """What the statistics are of, for JSON."""
        return {
            **self.extraction._asdict(),
            "count": self.count,
            "fingerprint": self.fingerprint,
            "crop": self.crop,
        }

    def with_features(self, features: np.ndarray) -> "Reference":
        """Holds (n, d) pool features of its images too.

        Raises:
          UserError: for another width than its statistics', NaN or infinity.
        """
        check_features("reference features", features, len(self.pool.mean))
        return self._replace(features=np.asarray(features, np.float32))

    def save(self, path: Path) -> None:
        """Writes an .npz, at once.

        Raises:
          UserError: if it cannot be written.
        """
        arrays = dict(zip(_STATISTICS, (*self.pool, *self.spatial), strict=True))
        if self.features is not None:
            arrays[_FEATURES] = self.features
        save_archive(path, KIND, self.about(), arrays)


def load_reference(path: Path) -> Reference:
    """What `Reference.save` wrote.

    Raises:
      UserError: for any other file.
    """
    about, arrays = load_archive(path, KIND, REFERENCE, *_STATISTICS)
    about = {name: about[name] for name in (*Extraction._fields, "count", "fingerprint", "crop")}
    resolution = about.pop("resolution")
    how = Extraction(resolution and tuple(resolution), about.pop("resize"), about.pop("weights"))
    pool = _gaussian(path, arrays["mu"], arrays["sigma"])
    spatial = _gaussian(path, arrays["mu_s"], arrays["sigma_s"])
    return Reference(pool, spatial, arrays.get(_FEATURES), how, **about)


def import_guided_diffusion(
    path: Path, resize: str, resolution: tuple[int, int] | None = None
) -> tuple[Reference, ArrayOnDisk | None]:
    """A reference file of guided-diffusion, as VIRTUAL_imagenet256_labeled.npz.

    It tells neither the number of images behind it, nor their crop, nor the weights: these stay
    unknown, and are not compared.

    Returns:
      The statistics, and the images (n, height, width, 3) uint8 for precision and recall, whose
      pool features the caller adds with `with_features`; None where the file has none.

    Args:
      resize: the convention of its features, on the user's word; 'tf1' of the published files.
      resolution: (height, width) of the images, on the user's word; None takes the images'.

    Raises:
      UserError: for missing or misshapen arrays, or images of another resolution.
    """
    mean, covariance, *spatial = read_arrays(path, *_STATISTICS).values()
    pool, spatial = _gaussian(path, mean, covariance), _gaussian(path, *spatial)
    images = None
    if "arr_0" in array_names(path):
        images = ArrayOnDisk(path, "arr_0")
        if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3:
            raise UserError(
                f"{path}: arr_0 is {images.dtype} {images.shape}: give uint8 (N, H, W, 3) images"
            )
        if resolution not in (None, images.shape[1:3]):
            raise UserError(
                f"{path} has images of {_show(images.shape[1:3])}, and {_show(resolution)} was "
                "asked for: give the reference of your resolution"
            )
        resolution = images.shape[1:3]
    extraction = Extraction(resolution, resize, None)
    return Reference(pool, spatial, None, extraction, None, sha256(path), None), images


def check_comparable(samples: Extraction, reference: Extraction) -> None:
    """Raises `UserError` where the two are known to differ, with both values."""
    for field, title in (
        ("resolution", "images are of"),
        ("resize", "Inception's resize is"),
        ("weights", "Inception's weights are"),
    ):
        ours, theirs = getattr(samples, field), getattr(reference, field)
        if None not in (ours, theirs) and ours != theirs:
            raise UserError(
                f"samples and reference differ: the {title} {_show(ours)} and {_show(theirs)}: "
                "make the reference's statistics as the samples', or the other way round"
            )


def _gaussian(path: Path, mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    mean, covariance = (np.asarray(array, np.float64) for array in (mean, covariance))
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise UserError(f"{path}: a mean of {mean.shape} beside a covariance of {covariance.shape}")
    check_features(f"{path}: statistics", np.vstack([mean, covariance]))
    return Gaussian(mean, covariance)


def _show(value: tuple[int, int] | str) -> str:
    return value if isinstance(value, str) else f"{value[0]} x {value[1]} pixels"
