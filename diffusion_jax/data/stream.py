"""The example stream: one global order that is a pure function of (seed, step)."""

import functools

import numpy as np

from diffusion_jax.data.sources import Source


class Stream:
    """Endless batches; `stream[step]` is the global batch of that step.

    Epochs follow each other without a gap and reshuffle; within one, none is lost or repeated.

    Args:
      source: the data set.
      batch_size: of the global batch.
      seed: decides the order and the flips.
      flip: mirror half of the images left to right, drawn anew in every epoch.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, flip: bool = False):
        self._source, self.batch_size, self._seed, self._flip = source, batch_size, seed, flip
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """{'images': (B, ...) uint8, 'labels': (B,) int32 if the source has them}."""
        start, count = step * self.batch_size, len(self._source)
        first, last = start // count, (start + self.batch_size - 1) // count
        epochs = [self._epoch(epoch) for epoch in range(first, last + 1)]
        order, mirrored = (np.concatenate(draws) for draws in zip(*epochs, strict=True))
        batch_part = slice(start - first * count, start - first * count + self.batch_size)
        indices, mirrored = order[batch_part], mirrored[batch_part]
        batch = self._source[indices]
        if self._flip:
            images = batch["images"]
            mirrored = mirrored.reshape(-1, *(1,) * (images.ndim - 1))
            batch["images"] = np.where(mirrored, images[..., ::-1, :], images)
        return batch

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Order of an epoch, and which of its positions are mirrored."""
        rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        count = len(self._source)
        return rng.permutation(count), rng.random(count) < 0.5
