"""A uniform random subset of what streams by: for precision and recall, and KID."""

import numpy as np


class Subset:
    """The first `capacity` vectors, and then a uniform draw of as many from all (algorithm R).

    Draws are keyed by the place in the stream: how it is split into batches does not matter, and a
    restored subset goes on as it would have. Memory: capacity x d x 4 bytes, touched as it fills
    (410 MB for 50,000 x 2048).

    Attributes:
      seen: vectors so far.
    """

    def __init__(self, dim: int, capacity: int):
        self.seen = 0
        self._held = np.empty((capacity, dim), np.float32)

    @property
    def features(self) -> np.ndarray:
        """(min(seen, capacity), d) float32; in order as long as all fit."""
        return self._held[: self.seen]

    def update(self, features: np.ndarray) -> None:
        """Offers a batch (B, d)."""
        places = self.seen + np.arange(len(features))
        draws = np.random.Generator(np.random.PCG64(0).advance(self.seen)).random(len(features))
        full = places >= len(self._held)
        places[full] = (draws * (places + 1))[full].astype(int)
        kept = places < len(self._held)
        self._held[places[kept]] = features[kept]  # of two at one place the later stays
        self.seen += len(features)

    def restore(self, features: np.ndarray, seen: int) -> None:
        """Continues from `features` and `seen` of another of this capacity."""
        self._held[: len(features)] = features
        self.seen = seen
