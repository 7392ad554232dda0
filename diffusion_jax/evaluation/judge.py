"""Reference statistics and the Inception to compare with them, loaded once for many scores."""

from pathlib import Path
from typing import NamedTuple

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.extractor import Extractor, load_extractor
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
      reference: statistics that they are compared with.
      extract: Inception's features, with the reference's resize.
    """

    reference: Reference
    extract: Extractor

    def extraction(self, resolution: tuple[int, ...]) -> Extraction:
        """Return how features of images of (height, width) pixels are made.

        Raises:
          UserError: unless the reference's are made likewise.
        """
        found = self.extract.extraction(resolution)
        check_comparable(found, self.reference.extraction)
        return found


def load_judge(reference: Path, inception: Path, mesh: Mesh) -> Judge:
    """Load a file of launch.reference and one of Inception's weights.

    Raises:
      UserError: for files that hold something else.
    """
    compared = load_reference(reference)
    if (resize := compared.extraction.resize) is None:
        raise UserError(f"{reference} does not tell its resize: make it again by launch.reference")
    return Judge(compared, load_extractor(inception, mesh, resize))
