"""The example stream: one global order that is a pure function of (seed, step), read by Grain.

The stream has no end: epochs follow each other without a gap and reshuffle, and within one, none is
lost or repeated. What is drawn of an example, a flip or the start of a clip, is keyed by (seed,
position in the stream). Hosts, threads and batch sizes cut the one stream into parts.
"""

import functools
import os
import sys
from collections.abc import Iterator

import grain
import numpy as np

from diffusion_jax.data.sources import Source

THREADS = min(os.cpu_count() or 1, 16)

Batch = dict[str, np.ndarray]


class Stream:
    """Endless batches of a source.

    Args:
      source: the data set.
      batch_size: of the global batch.
      seed: decides the order and what is drawn of an example.
      flip: mirror half of the examples left to right.
      parts, owned: read these of so many equal parts of each batch; see `hosts.parts_of`.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        flip: bool = False,
        parts: int = 1,
        owned: tuple[int, ...] = (0,),
    ):
        self.batch_size, self._source, self._flip = batch_size, source, flip
        self._order = functools.lru_cache(maxsize=2)(functools.partial(_order, len(source), seed))
        positions = grain.MapDataset.range(sys.maxsize).seed(seed)
        blocks = positions.random_map(self._example).batch(batch_size // parts)

        def of_step(step: int) -> Batch:
            read = [blocks[step * parts + part] for part in owned]
            return {name: np.concatenate([block[name] for block in read]) for name in read[0]}

        self._batches = grain.MapDataset.range(len(blocks) // parts).map(of_step)

    def __getitem__(self, step: int) -> Batch:
        """Return the owned parts of the batch of a step: what `Source.read` returns, stacked."""
        return self._batches[step]

    def batches(self, step: int) -> Iterator[Batch]:
        """Return an iterator over the batches from `step` on, which threads read ahead."""
        options = grain.ReadOptions(THREADS, prefetch_buffer_size=THREADS + 1)
        return iter(self._batches[step:].to_iter_dataset(options))

    def _example(self, position: int, rng: np.random.Generator) -> Batch:
        mirrored, at = self._flip and rng.random() < 0.5, rng.random()
        count = len(self._source)
        epoch, place = divmod(position, count)
        index = self._order(epoch)[place]
        return self._source.read(int(index), mirrored=mirrored, at=at)


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch. Grain's own shuffle takes 30 us for each example."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
