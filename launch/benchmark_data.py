"""Measure how fast images reach the training loop, on all cores, beside what Pillow alone decodes.

    python -m launch.benchmark_data --path=photos --size=64

--path is a folder of images, and --size what they are cropped to. Each row reads batches of 64 for
--seconds: Pillow decoding the files by as many threads as there are cores; the stream reading them
from the folder, by each crop; and the stream reading shards that launch.prepare writes for this.
"""

from launch.common import arguments, cli

import functools
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import flags
from PIL import Image

from diffusion_jax.console import say
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.preparing import PreparedFiles
from diffusion_jax.data.shards import write_dataset
from diffusion_jax.data.sources import DataConfig, open_source
from diffusion_jax.data.spec import Spec
from diffusion_jax.data.stream import Stream

BATCH = 64


def per_second(batches: Iterator, seconds: float) -> float:
    """Return images per second, after a first second that does not count."""
    begun = time.perf_counter()
    while time.perf_counter() <= begun + 1:
        next(batches)
    start, count, passed = time.perf_counter(), 0, 0.0
    while passed <= seconds:
        next(batches)
        count += BATCH
        passed = time.perf_counter() - start
    return count / passed


def by_pillow(folder: ImageFolder, then: Callable[[Image.Image], object]) -> Iterator:
    """Yield batches that Pillow decodes, `then` applied to each image."""

    def decode(index: int) -> None:
        image = Image.open(io.BytesIO(folder.record(index % len(folder))["image"]))
        then(image.convert("RGB"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in itertools.count(0, BATCH):
            yield list(pool.map(decode, range(start, start + BATCH)))


def main(options: flags.FlagValues) -> None:
    """Print the table."""
    shape = (options.size, options.size, 3)
    sides = {"height": options.size, "width": options.size}
    folder = ImageFolder(options.path)

    def stream(name: str, path: str | Path, crop: str) -> Iterator:
        source = open_source(DataConfig(name, str(path), crop=crop), shape, 0)
        return Stream(source, BATCH, seed=0).batches(0)

    with tempfile.TemporaryDirectory() as directory:
        records = PreparedFiles(folder, 3, options.size, "centre")
        spec, splits = Spec("image", shape, folder.class_names), {"train": records}
        out = Path(directory) / "set"
        write_dataset(out, spec, splits, name="set", source={}, workers=os.cpu_count() or 1)
        rows = {"Pillow: decode": by_pillow(folder, lambda image: image)}
        for name, crop in CROPS.items():
            rows[f"Pillow: decode, {name}"] = by_pillow(folder, functools.partial(crop, **sides))
            rows[f"stream: folder, {name}"] = stream("folder", options.path, name)
        rows["stream: shards"] = stream("tfds", out, "centre")
        say(f"{len(folder):,} images to {options.size} px, {os.cpu_count()} cores: images/s")
        for name, batches in rows.items():
            say(f"{name:32}{per_second(batches, options.seconds):>10,.0f}")


if __name__ == "__main__":
    arguments.path("path", None, "Folder of images.", required=True)
    arguments.side("size", 64, "Side of the square that they are cropped to.")
    arguments.number("seconds", 5.0, "How long each row is measured.", at_least=0)
    cli.run(lambda: main(flags.FLAGS), __doc__)
