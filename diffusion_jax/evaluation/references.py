"""Statistics of a data set that samples are compared with, and how they were made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import ArrayOnDisk, load_archive, open_images, save_archive
from diffusion_jax.evaluation.checks import check_features
from diffusion_jax.evaluation.frechet import Gaussian
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.npz import array_names, read_arrays
from diffusion_jax.storage.schemas import REFERENCE

KIND = "reference statistics"
# guided-diffusion's names, so that its tools read our files.
_STATISTICS, _FEATURES = ("mu", "sigma", "mu_s", "sigma_s"), "features"


class Extraction(NamedTuple):
    """How features were made; None where that is unknown.

    FID changes by whole points with the resize and with the weights, and with the resolution at
    which the images were stored, so features are only compared with features made alike.

    Attributes:
      resolution: (height, width) of the images before the network's own resize.
      resize: name of that resize in `RESIZES`.
      weights: SHA-256 of the network's weights.
    """

    resolution: tuple[int, ...] | None
    resize: str | None
    weights: str | None

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> "Extraction":
        """Return the extraction whose fields a JSON file lists."""
        resolution, resize, weights = values
        return cls(resolution and tuple(resolution), resize, weights)


class Reference(NamedTuple):
    """Statistics of a data set.

    Attributes:
      pool: Gaussian of the pool features, for FID.
      spatial: Gaussian of the spatial features, for sFID.
      features: (n, d) float32 pool features of some of the images, for precision, recall and KID;
        None where there are none.
      extraction: how the features were made.
      num_images: number of images behind the statistics; None where it is unknown.
      fingerprint: fingerprint of the data, or SHA-256 of the file that was imported.
      crop: how the images were cropped to the resolution; None where it is unknown.
    """

    pool: Gaussian
    spatial: Gaussian
    features: np.ndarray | None
    extraction: Extraction
    num_images: int | None
    fingerprint: str
    crop: str | None

    def about(self) -> dict[str, Any]:
        """Return the provenance of the statistics, for JSON."""
        return {
            **self.extraction._asdict(),
            "count": self.num_images,
            "fingerprint": self.fingerprint,
            "crop": self.crop,
        }

    def with_features(self, features: np.ndarray) -> "Reference":
        """Return the reference with (n, d) pool features of its images.

        Raises:
          UserError: for another width than that of the statistics, NaN or infinity.
        """
        check_features("reference features", features, len(self.pool.mean))
        return self._replace(features=np.asarray(features, np.float32))

    def save(self, path: Path) -> None:
        """Write an .npz, atomically.

        Raises:
          UserError: if it cannot be written.
        """
        arrays = dict(zip(_STATISTICS, (*self.pool, *self.spatial), strict=True))
        if self.features is not None:
            arrays[_FEATURES] = self.features
        save_archive(path, KIND, self.about(), arrays)


def load_reference(path: Path) -> Reference:
    """Read what `Reference.save` wrote.

    Raises:
      UserError: for any other file.
    """
    about, arrays = load_archive(path, KIND, REFERENCE, *_STATISTICS)
    return Reference(
        *_gaussians(path, arrays),
        arrays.get(_FEATURES),
        Extraction.from_json([about[name] for name in Extraction._fields]),
        *(about[name] for name in ("count", "fingerprint", "crop")),
    )


def import_guided_diffusion(
    path: Path, resize: str, resolution: tuple[int, ...] | None = None
) -> tuple[Reference, ArrayOnDisk | None]:
    """Read a reference file of guided-diffusion, such as VIRTUAL_imagenet256_labeled.npz.

    The file states neither the number of images behind it, nor their crop, nor the weights; these
    stay unknown and are not compared.

    Args:
      resize: the resize behind the features, as the user states it; 'tf1' for the published files.
      resolution: (height, width) of the images, as the user states it; None takes the images'.

    Returns:
      The statistics, and the images (n, height, width, channels) uint8 for precision and recall,
      whose pool features the caller adds by `with_features`; None where the file has none.

    Raises:
      UserError: for missing or misshapen arrays, or images of another resolution.
    """
    pool, spatial = _gaussians(path, read_arrays(path, *_STATISTICS))
    images = open_images(path) if "arr_0" in array_names(path) else None
    if images is not None:
        if resolution is not None and resolution != images.shape[1:3]:
            raise UserError(
                f"{path} has images of {_show(images.shape[1:3])}, and {_show(resolution)} was "
                "asked for: give the reference of your resolution"
            )
        resolution = images.shape[1:3]
    extraction = Extraction(resolution, resize, None)
    return Reference(pool, spatial, None, extraction, None, sha256(path), None), images


def check_comparable(samples: Extraction, reference: Extraction) -> None:
    """Raise `UserError` where two extractions are known to differ, with both values."""
    titles = ("images are of", "Inception's resize is", "Inception's weights are")
    for title, ours, theirs in zip(titles, samples, reference, strict=True):
        if ours is not None and theirs is not None and ours != theirs:
            raise UserError(
                f"samples and reference differ: the {title} {_show(ours)} and {_show(theirs)}: "
                "make the reference's statistics as the samples', or the other way round"
            )


def _gaussians(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Gaussian, Gaussian]:
    """Return the checked Gaussians of the pool and of the spatial features."""
    mu, sigma, mu_s, sigma_s = (np.asarray(arrays[name], np.float64) for name in _STATISTICS)
    for mean, covariance in ((mu, sigma), (mu_s, sigma_s)):
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
            raise UserError(
                f"{path}: a mean of {mean.shape} beside a covariance of {covariance.shape}"
            )
        check_features(f"{path}: statistics", np.vstack([mean, covariance]))
    return Gaussian(mu, sigma), Gaussian(mu_s, sigma_s)


def _show(value: tuple[int, ...] | str) -> str:
    return value if isinstance(value, str) else f"{value[0]} x {value[1]} pixels"
