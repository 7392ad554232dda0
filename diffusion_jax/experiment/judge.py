"""FID's Inception and the statistics to compare with, read and compiled once for many scores."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.inception import Features
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.evaluation.references import (
    Extraction,
    Reference,
    check_comparable,
    load_reference,
)
from diffusion_jax.parallel.sharding import Mesh


class Judge(NamedTuple):
    """What scores images.

    Attributes:
      reference: what they are compared with.
      inception: SHA-256 of the weights.
      extract: see `make_extractor`, with the reference's resize.
    """

    reference: Reference
    inception: str
    extract: Callable[[np.ndarray], Features]

    def extraction(self, resolution: tuple[int, int]) -> Extraction:
        """Of images of (height, width) pixels. Raises `UserError` unless the reference's is it."""
        found = Extraction(resolution, self.reference.extraction.resize, self.inception)
        check_comparable(found, self.reference.extraction)
        return found


def load_judge(reference: Path, inception: Path, mesh: Mesh) -> Judge:
    """From a file of launch.reference and one of Inception's weights.

    Raises:
      UserError: for files that hold something else.
    """
    compared, pretrained = load_reference(reference), load_inception(inception)
    extract = make_extractor(pretrained, mesh, compared.extraction.resize)
    return Judge(compared, pretrained.sha256, extract)
