"""What becomes of records that cannot be read: they stop the reader, or the next one is read."""

from typing import TYPE_CHECKING

import numpy as np

from diffusion_jax.console import warn
from diffusion_jax.data.records import BadRecord
from diffusion_jax.errors import UserError

if TYPE_CHECKING:
    from diffusion_jax.data.sources import FittedSource

MOST_BAD = 1000  # records in a row that may be skipped before the set is called broken


class Skipping:
    """A `Source` in which the next record that can be read takes the place of a bad one.

    Its other attributes are those of the source.

    Attributes:
      skipped: by index, what is wrong with the records that were left out.
    """

    def __init__(self, source: "FittedSource"):
        self.kind, self.shape, self.num_classes = source.kind, source.shape, source.num_classes
        self.scaling = source.scaling
        self._source, self.skipped = source, {}

    def __len__(self) -> int:
        return len(self._source)

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return self._source.fingerprint()

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict[str, np.ndarray]:
        """Return example `index`, or the first one after it that can be read.

        Raises:
          UserError: if none of the next `MOST_BAD` can be read.
        """
        count = len(self)
        for tried in range(min(count, MOST_BAD)):
            chosen = (index + tried) % count
            try:
                return self._source.read(chosen, mirrored=mirrored, at=at)
            except BadRecord as error:
                if chosen not in self.skipped:
                    self.skipped[chosen] = str(error)
                    warn(f"skipped: {error} ({len(self.skipped)} so far)")
        raise UserError(f"none of the {tried + 1} records from {index} on can be read")
