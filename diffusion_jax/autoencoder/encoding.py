"""Encode images to the moments of latents, in batches that all devices share."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from diffusion_jax.autoencoder.decoding import on_mesh
from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.sources import Source
from diffusion_jax.data.stream import THREADS
from diffusion_jax.diffusion import process
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up


class EncodedRecords:
    """Records for `write_dataset`: 'moments', 'moments_flipped' and 'label', a batch at a time.

    Batches start at multiples of their size, wherever the reading starts, so that a command that
    was stopped continues with the same batches. The images of the next one are read while this one
    is encoded.

    Args:
      images: a source of images of the autoencoder's size.
      pretrained: the autoencoder.
      batch_size: images at a time; rounded up to what the mesh can share.
    """

    def __init__(self, images: Source, pretrained: Pretrained, batch_size: int, mesh: Mesh):
        self._images, self._batch_size = images, round_up(batch_size, mesh)
        self._encode = make_encoder(pretrained, mesh)
        self._pool = ThreadPoolExecutor(THREADS)
        self._read_ahead: dict[int, list[Future]] = {}
        self._start, self._records = -1, []  # none yet

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict:
        start = index - index % self._batch_size
        if self._start != start:
            self._start, self._records = start, self._encode_batch(start)
        record = self._records[index - start]
        if isinstance(record, BadRecord):
            raise record
        return record

    def _encode_batch(self, start: int) -> list[dict | BadRecord]:
        reading = self._read_ahead.get(start) or self._submit(start)
        following = start + self._batch_size
        self._read_ahead = {following: self._submit(following)}
        records = [future.result() for future in reading]
        good = {row: read for row, read in enumerate(records) if not isinstance(read, BadRecord)}
        images = np.zeros((self._batch_size, *self._images.shape), np.uint8)  # some may stay empty
        for row, example in good.items():
            images[row] = example["images"]
        plain, flipped = self._encode(images)
        for row, example in good.items():
            label = {"label": int(example["labels"])} if "labels" in example else {}
            records[row] = {"moments": plain[row], "moments_flipped": flipped[row], **label}
        return records

    def _submit(self, start: int) -> list[Future]:
        stop = min(start + self._batch_size, len(self))
        return [self._pool.submit(self._read, index) for index in range(start, stop)]

    def _read(self, index: int) -> dict | BadRecord:
        try:
            return self._images.read(index)
        except BadRecord as error:  # raised again when its turn comes
            return error


def make_encoder(
    pretrained: Pretrained, mesh: Mesh
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Make a jitted encoder.

    Returns:
      images (B, H, W, C) uint8 -> packed moments (B, h, w, 2c), float32 on the host, of the images
      and of their mirror images.
    """

    def encode(params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def moments(images):
            images = process.to_model_range(images, 1.0)
            return pretrained.model.apply({"params": params}, images, method="encode").pack()

        return moments(images), moments(images[:, :, ::-1])

    encoder = on_mesh(encode, pretrained, mesh)
    return lambda images: hosts.to_host(encoder(hosts.put(images, mesh)))


def recorded_settings(model: Autoencoder) -> dict[str, float]:
    """Return what the manifest of encoded data says of settings that the weights do not tell.

    It says nothing of Stable Diffusion's, so that sets encoded before it did are continued.
    """
    settings = {"norm_num_groups": model.groups, **model.scaling._asdict()}
    default = {"norm_num_groups": Autoencoder.groups, **STABLE_DIFFUSION._asdict()}
    return {} if settings == default else settings
