"""Compute FID between the training and the test images of a data set, to check an Inception.

    python -m launch.offline.fid --train=data/train --test=data/test --inception=inception.npz \\
      --references=references --out=fid.json

Between the 50,000 and the 10,000 images of CIFAR-10 the literature has about 3.15. The statistics
are kept in --references, those of the training images for launch.evaluate, too. A stopped command
continues.
"""

from launch.common import arguments, cli
from launch.offline.budget import Records

import functools
import time
from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.data.prepared import Prepared, find_directory
from diffusion_jax.data.sources import DataConfig
from diffusion_jax.evaluation.extractor import load_extractor
from diffusion_jax.evaluation.frechet import frechet_distance
from diffusion_jax.evaluation.references import Reference, load_reference
from diffusion_jax.experiment.features import reference_of_data
from diffusion_jax.parallel.sharding import make_mesh


def main(options: flags.FlagValues) -> None:
    """Compute the statistics that are missing, and the distance."""
    folder, out = Path(options.references), Path(options.out)
    load = functools.cache(lambda: load_extractor(options.inception, make_mesh(), "tf1"))
    found: dict[str, Reference] = {}
    for split in ("test", "train"):
        path, source = folder / f"{split}.npz", getattr(options, split)
        if not path.exists():
            is_prepared = Path(source).is_dir()
            config = DataConfig("tfds" if is_prepared else "npz", source, split)
            shape = Prepared(find_directory(source), split).spec.shape if is_prepared else (0,)
            start = time.monotonic()
            statistics = reference_of_data(config, shape[0] or 0, load, folder)
            statistics.save(path)
            rate = (statistics.num_images or 0) / (time.monotonic() - start)
            say(f"{split}: {statistics.num_images:,} images, {rate:,.0f} a second")
            Records(out.parent).update(out.stem, **{f"{split}_images_per_second": rate})
        found[split] = load_reference(path)
    fid = frechet_distance(found["test"].pool, found["train"].pool)
    images = {split: each.num_images for split, each in found.items()}
    weights = found["test"].extraction.weights
    Records(out.parent).update(out.stem, finished=True, fid=fid, images=images, inception=weights)
    say(f"FID between them: {fid:.3f}")


if __name__ == "__main__":
    arguments.path("train", None, "Training images: a prepared directory, or .npz.", required=True)
    arguments.path("test", None, "Test images, likewise.", required=True)
    arguments.file("inception", None, "Weights of FID's Inception.", required=True)
    arguments.folder("references", None, "Where the statistics are kept.", required=True)
    arguments.file("out", None, "JSON file to write.", required=True)
    cli.run(lambda: main(flags.FLAGS), __doc__)
