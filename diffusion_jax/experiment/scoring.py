"""What the commands that score images share: images of any kind in batches, and their features."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from absl import flags

from diffusion_jax.console import progress
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.images import decode_image, pixels
from diffusion_jax.data.records import naming
from diffusion_jax.data.sources import Source
from diffusion_jax.data.stream import THREADS
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.accumulator import Accumulator, load_accumulator
from diffusion_jax.evaluation.archives import ArrayOnDisk
from diffusion_jax.evaluation.inception import Features
from diffusion_jax.evaluation.references import Extraction
from diffusion_jax.experiment.exports import read_provenance
from diffusion_jax.experiment.workdir import read_run, read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.storage.files import sha256
from launch import sample
from launch.common.options import opened_folder

BATCH = 500
SAVE_EVERY = 60  # seconds


class ImagesInOrder(Protocol):
    """Images of one size.

    Attributes:
      shape: (N, height, width, channels).
    """

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """(size, height, width, channels) uint8, from image `start` on."""
        ...


class OfSource:
    """The images of a data set, as training sees them without flips."""

    def __init__(self, source: Source):
        self._source = source
        self.shape = (len(source), *source.read(0)["images"].shape)

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """See `ImagesInOrder.batches`."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(start, len(self), size):
                indices = range(first, min(first + size, len(self)))
                yield np.stack([found["images"] for found in pool.map(self._source.read, indices)])


class OfFolder:
    """Generated images in files, which must have one size: nothing is resized here."""

    def __init__(self, folder: ImageFolder):
        self._folder = folder
        self.shape = (len(folder), *self._read(0).shape)

    def __len__(self) -> int:
        return len(self._folder)

    def _read(self, index: int) -> np.ndarray:
        with naming(self._folder.name(index)):
            return pixels(decode_image(self._folder.record(index)["image"], 3))

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """See `ImagesInOrder.batches`."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(start, len(self), size):
                indices = range(first, min(first + size, len(self)))
                batch = list(pool.map(self._read, indices))
                for index, image in zip(indices, batch, strict=True):
                    self._check(index, image.shape)
                yield np.stack(batch)

    def _check(self, index: int, shape: tuple[int, ...]) -> None:
        if shape != self.shape[1:]:
            raise UserError(
                f"{self._folder.name(index)} is {shape[0]} x {shape[1]} and {self._folder.name(0)} "
                f"{self.shape[1]} x {self.shape[2]}: give images of one size"
            )


def open_images(path: Path) -> tuple[ImagesInOrder, str]:
    """Images made anywhere, and their fingerprint.

    Args:
      path: of an .npz with 'arr_0' uint8 (N, H, W, C), or of a folder of images.

    Raises:
      UserError: if they cannot be read, or are no such images.
    """
    if path.is_dir():
        folder = ImageFolder(path)
        folder.check_files()
        return OfFolder(folder), folder.fingerprint()
    images = ArrayOnDisk(path, "arr_0")
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{path}: arr_0 is {images.dtype} of shape {images.shape}: give uint8 (N, H, W, 3), "
            "or 1 for grey"
        )
    return images, sha256(path)


def accumulate(
    images: ImagesInOrder,
    fingerprint: str,
    extract: Callable[[np.ndarray], Features],
    extraction: Extraction,
    keep: int,
    folder: Path,
) -> Accumulator:
    """Features of all images; a stopped command continues from what it left in `folder`."""
    about = hashlib.sha256(f"{fingerprint} {extraction} {keep}".encode()).hexdigest()
    begun = folder / f"begun-{about[:12]}.npz"
    accumulator = load_accumulator(begun) if begun.exists() else Accumulator(extraction, keep)
    saved = time.monotonic()
    with progress(len(images), "images", initial=accumulator.count) as bar:
        for batch in images.batches(BATCH, accumulator.count):
            accumulator.update(extract(batch))
            bar.update(len(batch))
            is_due = time.monotonic() - saved >= SAVE_EVERY and accumulator.count < len(images)
            if is_due and hosts.is_main():
                accumulator.save(begun)
                saved = time.monotonic()
    hosts.wait_for_all("accumulated")
    begun.unlink(missing_ok=True)
    return accumulator


def sample_run(options: flags.FlagValues) -> tuple[Path, dict]:
    """Samples a run, or an export, as the flags of `sample.define_flags` say.

    Returns:
      The folder of the samples, and the fields of `Result` that tell how they were made.
    """
    folder = opened_folder(options)
    config = sample.override(read_workdir(folder), options)
    out = sample.from_flags(folder, config, options)
    request = sample.read_request(out)
    if options.init_from:
        provenance = read_provenance(folder)
        made = {name: provenance[name] for name in ("config", "step", "images_seen")}
        made["weights"] = {"denoiser": request["exported"]}
    else:
        step = request["step"]
        seen = step * config.train.batch_size
        made = {"config": read_run(folder)["config"], "step": step, "images_seen": seen}
    return out, made | {
        "seed": options.seed,
        "sampler": config.sampling.sampler,
        "steps": config.sampling.steps,
        "guidance": config.sampling.guidance,
    }
