"""Checks FID on real images: sets that should be alike, unlike, and ever more unlike.

    python -m launch.check_fid --train=cifar10_train.npz --test=cifar10_test.npz \\
      --other=mnist.npz --inception=inception.npz --workdir=runs/check_fid --out=docs/fid.md

Compares --num test images with as many of the training images, twice, with disjoint parts; and the
first --fewer test images with others, and with themselves after noise, blur and JPEG. FID depends
on the number of images: compare rows of like numbers only. A stopped command continues.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageFilter

from diffusion_jax.console import say
from diffusion_jax.data import arrays
from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.frechet import Gaussian, frechet_distance
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.evaluation.references import Extraction, load_reference
from diffusion_jax.experiment.scoring import OfSource, accumulate
from diffusion_jax.parallel.sharding import make_mesh
from launch.common import arguments, cli

Change = Callable[[np.ndarray, int], np.ndarray]  # (image, index) -> image


def noise(scale: float) -> Change:
    """Gaussian, its standard deviation in grey levels."""

    def change(image: np.ndarray, index: int) -> np.ndarray:
        drawn = np.random.default_rng(index).normal(0, scale, image.shape)
        return np.clip(np.round(image + drawn), 0, 255).astype(np.uint8)

    return change


def blur(radius: float) -> Change:
    """Gaussian, its standard deviation in pixels."""
    kernel = ImageFilter.GaussianBlur(radius)
    return lambda image, _: np.asarray(Image.fromarray(image).filter(kernel))


def jpeg(quality: int) -> Change:
    """Saved at a quality, and read again."""

    def change(image: np.ndarray, _: int) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return change


HEAD = """\
# What FID says of real images

The first images of {test}, beside those of {train} and {other}, and beside themselves,
changed. Pool features of FID's Inception, TF1's resize. FID falls as images are added: compare
rows of like numbers only. Made by `python -m launch.check_fid`.

| compared | images on each side | FID |
|---|---|---|
"""
CHANGES = {
    **{f"noise of {scale} grey levels": noise(scale) for scale in (4, 16, 64)},
    **{f"blur of {radius} pixels": blur(radius) for radius in (0.5, 1.0, 2.0)},
    **{f"JPEG of quality {quality}": jpeg(quality) for quality in (90, 50, 10)},
}


def rows(options: flags.FlagValues) -> Iterator[tuple[str, int, float]]:
    """(what is compared, images on each side, FID)."""
    train, test, other = (
        arrays.npz(p, labelled=False).images for p in (options.train, options.test, options.other)
    )
    pretrained = load_inception(options.inception)
    extract = make_extractor(pretrained, make_mesh(), "tf1")

    def statistics(name: str, images: np.ndarray) -> Gaussian:
        path = Path(options.workdir) / f"{name.replace(' ', '_')}.npz"
        if not path.exists():
            source = arrays.Arrays(images, None)
            extraction = Extraction(images.shape[1:3], "tf1", pretrained.sha256)
            fingerprint = source.fingerprint()
            found = accumulate(
                OfSource(source), fingerprint, extract, extraction, keep=0, folder=path.parent
            )
            found.reference(fingerprint, None).save(path)
        return load_reference(path).pool

    num, fewer = options.num, options.fewer
    whole = statistics(f"test {num}", test[:num])
    yield "test, themselves", num, frechet_distance(whole, whole)
    for part in range(2):
        images = train[part * num : (part + 1) * num]
        other_side = statistics(f"train {num} part {part}", images)
        yield f"test, training images part {part + 1}", num, frechet_distance(whole, other_side)
    clean = statistics(f"test {fewer}", test[:fewer])
    for name, change in CHANGES.items():
        images = np.stack([change(image, i) for i, image in enumerate(test[:fewer])])
        changed = statistics(f"{name} {fewer}", images)
        yield f"test, themselves with {name}", fewer, frechet_distance(clean, changed)
    others = statistics(f"other {fewer}", other[:fewer])
    yield f"test, {Path(options.other).stem}", fewer, frechet_distance(clean, others)


def main(options: flags.FlagValues) -> None:
    """Prints the rows as they come, and writes the table."""
    names = {side: Path(options[side].value).stem for side in ("test", "train", "other")}
    lines = []
    for name, count, fid in rows(options):
        lines.append(f"| {name} | {count:,} | {fid:.3f} |\n")
        say(lines[-1].rstrip("\n"))
    Path(options.out).write_text(HEAD.format(**names) + "".join(lines))


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
