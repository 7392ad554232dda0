"""Inception features of images, a batch at a time over the devices of a mesh."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.errors import UserError, check_at_least, check_choice
from diffusion_jax.evaluation.inception import Features
from diffusion_jax.evaluation.inception_weights import Pretrained, load_inception
from diffusion_jax.evaluation.references import Extraction
from diffusion_jax.evaluation.resize import RESIZES
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, round_up

AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Function from images to Inception's features.

    Attributes:
      features: images (B, H, W, 3 or 1) uint8, B >= 1 -> `Features`, NumPy arrays of B rows.
      resize: name of the resize to 299 x 299 in `RESIZES`.
      weights: SHA-256 of Inception's weights.
    """

    features: Callable[[np.ndarray], Features]
    resize: str
    weights: str

    def __call__(self, images: np.ndarray) -> Features:
        """Return the features of images (B, H, W, 3 or 1) uint8, B >= 1, on the host.

        Grey images are repeated to three channels.

        Raises:
          UserError: for any other array.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise UserError(f"images are {images.dtype}: give uint8 in 0 ... 255")
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
            raise UserError(f"images have shape {images.shape}: give (B, H, W, 3), or 1 for grey")
        return self.features(np.broadcast_to(images, (*images.shape[:3], 3)))

    def extraction(self, resolution: tuple[int, ...]) -> Extraction:
        """Return how features of images of (height, width) pixels are made."""
        return Extraction(resolution, self.resize, self.weights)


def make_extractor(
    pretrained: Pretrained, mesh: Mesh, resize: str, at_once: int = AT_ONCE
) -> Extractor:
    """Return an extractor, which compiles once for each size of images.

    Args:
      resize: a name of `RESIZES`; the published ImageNet scores use 'tf1'.
      at_once: images that each part of the mesh's batch takes at a time.

    Raises:
      UserError: for an unknown resize, or at_once below 1.
    """
    check_choice("resize", resize, RESIZES)
    check_at_least("at_once", at_once, 1)

    def extract(params: Any, images: jax.Array) -> Features:
        return pretrained.model.apply({"params": params}, RESIZES[resize](images))

    features = over_devices(extract, pretrained.params, mesh, at_once)
    return Extractor(features, resize, pretrained.sha256)


def load_extractor(inception: str | Path, mesh: Mesh, resize: str) -> Extractor:
    """Return an extractor with the weights of a file; see `load_inception`.

    Raises:
      UserError: for a file that does not hold Inception's weights.
    """
    return make_extractor(load_inception(inception), mesh, resize)


def over_devices(
    apply: Callable[[Any, jax.Array], Any], params: Any, mesh: Mesh, at_once: int
) -> Callable[[np.ndarray], Any]:
    """Jit a network with its parameters replicated and its batch split over the mesh.

    Args:
      apply: (params, rows) -> a tree of arrays with as many rows.
      at_once: rows that each part of the mesh's batch takes at a time.

    Returns:
      rows (N, ...) -> the same tree of NumPy arrays (N, ...). The last batch is filled up, so that
      one program serves any N: give it many rows at a time.
    """
    apply = jax.jit(
        apply,
        in_shardings=(replicated(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    apply = functools.partial(apply, jax.device_put(params, replicated(mesh)))
    size = at_once * round_up(1, mesh)
    return lambda rows: hosts.in_batches(apply, rows, size, mesh)
