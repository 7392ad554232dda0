"""Features of images in order: open the images, accumulate features, make reference statistics."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from diffusion_jax.console import progress, say
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.images import decode_image, pixels
from diffusion_jax.data.records import naming
from diffusion_jax.data.sources import DataConfig, Source, open_records, open_source
from diffusion_jax.data.stream import THREADS
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.evaluation import archives
from diffusion_jax.evaluation.accumulator import KEEP_REFERENCE, Accumulator, load_accumulator
from diffusion_jax.evaluation.archives import ArrayOnDisk
from diffusion_jax.evaluation.extractor import Extractor
from diffusion_jax.evaluation.references import Reference, import_guided_diffusion
from diffusion_jax.parallel import hosts
from diffusion_jax.storage.files import sha256

BATCH = 500
SAVE_EVERY = 20  # seconds; a save takes one


class Examples:
    """Uint8 images or videos of one shape, read in order by several threads.

    Attributes:
      shape: (N, ...), that of all of them.

    Args:
      count: how many there are.
      read: index -> one of them.
    """

    def __init__(self, count: int, read: Callable[[int], np.ndarray]):
        self._read, self.shape = read, (count, *read(0).shape)

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self, size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yield those from `start` on, `size` at a time; the last batch may be smaller."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(start, len(self), size):
                indices = range(first, min(first + size, len(self)))
                yield np.stack(list(pool.map(self._read, indices)))


def examples_of(source: Source, count: int | None = None) -> Examples:
    """Return the images or videos of a data set, as training sees them without flips.

    Args:
      count: how many, beginning again after the last; None for each once.
    """
    return Examples(
        len(source) if count is None else count,
        lambda index: source.read(index % len(source))["images"],
    )


def open_images(path: Path) -> tuple[Examples | ArrayOnDisk, str]:
    """Open images made anywhere: (images, their fingerprint).

    Args:
      path: an .npz with 'arr_0' uint8 (N, H, W, C), or a folder of images. Those must have one
        size: nothing is resized here.

    Raises:
      UserError: if they cannot be read, or are not such images.
    """
    if not path.is_dir():
        return archives.open_images(path), sha256(path)
    folder = ImageFolder(path)
    folder.check_files()

    def decode(index: int) -> np.ndarray:
        with naming(folder.name(index)):
            return pixels(decode_image(folder.record(index)["image"], 3))

    size = decode(0).shape

    def read(index: int) -> np.ndarray:
        image = decode(index)
        if image.shape != size:
            raise UserError(
                f"{folder.name(index)} is {image.shape[0]} x {image.shape[1]} and "
                f"{folder.name(0)} {size[0]} x {size[1]}: give images of one size"
            )
        return image

    return Examples(len(folder), read), folder.fingerprint()


def accumulate(
    images: Examples | ArrayOnDisk,
    fingerprint: str,
    extract: Extractor,
    keep: int,
    folder: Path,
) -> Accumulator:
    """Accumulate the features of all images; a stopped command continues from `folder`.

    Args:
      fingerprint: of the images, so that only the same evaluation is continued.
      keep: images whose pool features are held, for precision, recall and KID.
      folder: where the state is saved every `SAVE_EVERY` seconds.

    Raises:
      UserError: for images or features that cannot be used.
    """
    extraction = extract.extraction(images.shape[1:3])
    key = hashlib.sha256(f"{fingerprint} {extraction} {keep}".encode()).hexdigest()
    begun = folder / f"begun-{key[:12]}.npz"
    accumulator = load_accumulator(begun) if begun.exists() else Accumulator(extraction, keep)
    saved = time.monotonic()
    for batch in counted(images.batches(BATCH, accumulator.count), len(images), accumulator.count):
        accumulator.update(extract(batch))
        is_due = time.monotonic() - saved >= SAVE_EVERY and accumulator.count < len(images)
        if is_due and hosts.is_main():
            accumulator.save(begun)
            saved = time.monotonic()
    hosts.wait_for_all("accumulated")
    begun.unlink(missing_ok=True)
    return accumulator


def reference_of_data(
    config: DataConfig, side: int, load: Callable[[], Extractor], folder: Path
) -> Reference:
    """Return statistics of the images that training would see, without flips.

    Args:
      side: side that images are cropped to; arrays ('npz') stay as they are.
      load: returns the extractor; called once the data are known to be readable.
      folder: where the state is saved; see `accumulate`.

    Raises:
      UserError: for data that cannot be read or are not images.
    """
    if config.name == "npz":
        source, crop = open_source(config, None, 0), None
        _check_kind(source.kind, config.path)
    else:
        check_at_least("--size", side, 1)
        _check_kind(open_records(config).kind, config.path)
        source, crop = open_source(config, (side, side, 3), 0), config.crop
    images, fingerprint = examples_of(source), source.fingerprint()
    found = accumulate(images, fingerprint, load(), KEEP_REFERENCE, folder)
    return found.reference(fingerprint, crop)


def _check_kind(kind: str, path: str) -> None:
    if kind != "image":
        raise UserError(f"{path}: holds examples of kind {kind}, not images")


def reference_of_guided_diffusion(
    path: Path, resize: str, load: Callable[[], Extractor], folder: Path
) -> Reference:
    """Return published statistics, with features of the images in the same file.

    Args:
      resize: the resize behind the statistics, as the user states it.
      load: as for `reference_of_data`, like `folder`.

    Raises:
      UserError: for a file that is not one of guided-diffusion's references.
    """
    reference, images = import_guided_diffusion(path, resize)
    if images is None:
        return reference
    found = accumulate(images, reference.fingerprint, load(), len(images), folder)
    return reference.with_features(found.held)


def counted(batches: Iterable[np.ndarray], total: int, done: int = 0) -> Iterator[np.ndarray]:
    """Yield batches and show how many of their examples are done."""
    say(f"Extracting features of {total - done:,} examples...")
    with progress(total, "examples", initial=done) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
