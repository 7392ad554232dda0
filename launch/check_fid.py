"""Check FID on real images: sets that should be alike, unlike, and ever more unlike.

    python -m launch.check_fid --train=cifar10_train.npz --test=cifar10_test.npz \\
      --other=mnist.npz --inception=inception.npz --workdir=runs/check_fid --out=docs/fid.md

Compares --num test images with as many of the training images, twice, with disjoint parts; and the
first --fewer test images with others, and with themselves after noise, blur and JPEG. FID depends
on the number of images: compare rows of like numbers only. A stopped command continues.
"""

from launch.common import arguments, cli

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.benchmarks.results import Table
from diffusion_jax.data.arrays import Arrays, npz
from diffusion_jax.evaluation.distortions import DISTORTIONS
from diffusion_jax.evaluation.extractor import load_extractor
from diffusion_jax.evaluation.frechet import Gaussian, frechet_distance
from diffusion_jax.evaluation.references import load_reference
from diffusion_jax.experiment.features import accumulate, examples_of
from diffusion_jax.parallel.sharding import make_mesh

HEAD = """\
# What FID says of real images

The first images of {test}, beside those of {train} and {other}, and beside themselves,
changed. Pool features of FID's Inception, TF1's resize. FID falls as images are added: compare
rows of like numbers only. Made by `python -m launch.check_fid`."""


def rows(options: flags.FlagValues) -> Iterator[tuple[str, int, float]]:
    """Yield (what is compared, images on each side, FID)."""
    train, test, other = (
        npz(path, labelled=False).images for path in (options.train, options.test, options.other)
    )
    extract = load_extractor(options.inception, make_mesh(), "tf1")

    def statistics(name: str, images: np.ndarray) -> Gaussian:
        path = Path(options.workdir) / f"{name.replace(' ', '_')}.npz"
        if not path.exists():
            source = Arrays(images, None)
            key = source.fingerprint()
            found = accumulate(examples_of(source), key, extract, keep=0, folder=path.parent)
            found.reference(key, None).save(path)
        return load_reference(path).pool

    num, fewer = options.num, options.fewer
    whole = statistics(f"test {num}", test[:num])
    yield "test, themselves", num, frechet_distance(whole, whole)
    for part in range(2):
        images = train[part * num : (part + 1) * num]
        other_side = statistics(f"train {num} part {part}", images)
        yield f"test, training images part {part + 1}", num, frechet_distance(whole, other_side)
    clean = statistics(f"test {fewer}", test[:fewer])
    for name, distort in DISTORTIONS.items():
        images = np.stack([distort(image, i) for i, image in enumerate(test[:fewer])])
        changed = statistics(f"{name} {fewer}", images)
        yield f"test, themselves with {name}", fewer, frechet_distance(clean, changed)
    others = statistics(f"other {fewer}", other[:fewer])
    yield f"test, {Path(options.other).stem}", fewer, frechet_distance(clean, others)


def main(options: flags.FlagValues) -> None:
    """Print the rows as they come, and write them to --out."""
    names = {side: Path(str(options[side].value)).stem for side in ("test", "train", "other")}
    table = Table(HEAD.format(**names), ("compared", "images on each side", "FID"))
    for name, count, fid in rows(options):
        table.add(name, f"{count:,}", f"{fid:.3f}")
    Path(options.out).write_text("\n".join(table.lines) + "\n")


if __name__ == "__main__":
    arguments.file("train", None, "Training images, .npz.", required=True)
    arguments.file("test", None, "Test images of the same data set, .npz.", required=True)
    arguments.file("other", None, "Images of another data set, .npz.", required=True)
    arguments.file("inception", None, "Weights of FID's Inception.", required=True)
    arguments.folder("workdir", None, "Where statistics are kept.", required=True)
    arguments.file("out", None, "Markdown file to write.", required=True)
    arguments.count("num", 5000, "Images of the sets that should be alike.", at_least=2)
    arguments.count("fewer", 1000, "Images of the others.", at_least=2)
    cli.run(lambda: main(flags.FLAGS), __doc__)
