"""From images to Inception's features, a batch at a time over the devices of a mesh."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from diffusion_jax.errors import UserError, check_at_least, check_choice
from diffusion_jax.evaluation.inception import Features
from diffusion_jax.evaluation.inception_weights import Pretrained
from diffusion_jax.evaluation.resize import RESIZES
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, round_up

AT_ONCE = 32


def make_extractor(
    pretrained: Pretrained, mesh: Mesh, resize: str, at_once: int = AT_ONCE
) -> Callable[[np.ndarray], Features]:
    """A jitted extractor; it compiles once for a size of images, whatever their number.

    The last batch is filled up, so give it many images at a time.

    Args:
      resize: a name of `RESIZES`; published ImageNet tables are by 'tf1'.
      at_once: images that each part of the mesh's batch takes at a time.

    Returns:
      images (B, H, W, 3 or 1) uint8, B >= 1 -> `Features`, NumPy arrays of B rows. Grey images are
      repeated to three channels. It raises `UserError` for other arrays.

    Raises:
      UserError: for an unknown resize, or at_once below 1.
    """
    check_choice("resize", resize, RESIZES)
    check_at_least("at_once", at_once, 1)
    batch = at_once * round_up(1, mesh)

    def extract(params, images: jax.Array) -> Features:
        return pretrained.model.apply({"params": params}, RESIZES[resize](images))

    extract = jax.jit(
        extract,
        in_shardings=(replicated(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    params = jax.device_put(pretrained.params, replicated(mesh))

    def extract_all(images: np.ndarray) -> Features:
        images = _checked(np.asarray(images))
        return hosts.in_batches(functools.partial(extract, params), images, batch, mesh)

    return extract_all


def _checked(images: np.ndarray) -> np.ndarray:
    """The images, with three channels."""
    if images.dtype != np.uint8:
        raise UserError(f"images are {images.dtype}: give uint8 in 0 ... 255")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise UserError(f"images have shape {images.shape}: give (B, H, W, 3), or 1 for grey")
    return np.broadcast_to(images, (*images.shape[:3], 3))
