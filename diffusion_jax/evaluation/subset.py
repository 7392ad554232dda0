"""A uniform random subset of a stream: the features behind precision, recall and KID."""

import numpy as np


class Subset:
    """The first `capacity` vectors, then a uniform draw of as many from all (algorithm R).

    Algorithm R (Vitter, 1985) puts vector i at a place drawn from 0 to i, and drops it where that
    is beyond the capacity. Draws are keyed by the place in the stream: how it is split into batches
    does not matter, and a restored subset continues as it would have. Memory: capacity x d x 4
    bytes, touched as it fills (410 MB for 50,000 x 2048).

    Attributes:
      seen: number of vectors so far.
    """

    def __init__(self, dim: int, capacity: int):
        self.seen = 0
        self._held = np.empty((capacity, dim), np.float32)

    @property
    def features(self) -> np.ndarray:
        """(min(seen, capacity), d) float32; in order as long as all fit."""
        return self._held[: self.seen]

    def update(self, features: np.ndarray) -> None:
        """Offer a batch (B, d)."""
        places = self.seen + np.arange(len(features))
        # One draw for each vector of the stream, whatever the batches: skip those already used.
        draws = np.random.Generator(np.random.PCG64(0).advance(self.seen)).random(len(features))
        full = places >= len(self._held)
        places[full] = (draws * (places + 1))[full].astype(int)
        kept = places < len(self._held)
        self._held[places[kept]] = features[kept]  # of two at one place the later stays
        self.seen += len(features)

    def restore(self, features: np.ndarray, seen: int) -> None:
        """Continue from `features` and `seen` of another subset of this capacity."""
        self._held[: len(features)] = features
        self.seen = seen
