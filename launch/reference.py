"""Statistics of a data set for FID and its kin, once, for launch.evaluate to compare samples with.

    python -m launch.reference --source=npz --path=data/cifar10.npz \\
      --inception=inception.npz --out=data/references/cifar10.npz
    python -m launch.reference --path=imagenet/train --size=256 --crop=box_halving ...
    python -m launch.reference --source=guided_diffusion --path=VIRTUAL_imagenet256_labeled.npz ...

--inception are the weights of FID's Inception: pytorch-fid's .pth, or the same as .npz or
.safetensors. The last form takes over the statistics that guided-diffusion published, and computes
the features of the images beside them, for precision and recall. A stopped command continues.
"""

from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.console import progress, say
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.sources import DataConfig, open_records, open_source
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.evaluation.accumulator import KEEP_REFERENCE
from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.evaluation.references import Extraction, Reference, import_guided_diffusion
from diffusion_jax.evaluation.resize import RESIZES
from diffusion_jax.experiment.scoring import BATCH, OfSource, accumulate
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_path
from launch.common import arguments, cli

SOURCES = ("folder", "npz", "tfds", "guided_diffusion")


def of_data(options: flags.FlagValues) -> Reference:
    """Statistics of the images that training would see, without flips."""
    config = DataConfig(options.source, options.path, options.split, options.crop)
    if options.source == "npz":
        source, crop = open_source(config, None, 0), None
        _check_kind(source.kind, options.path)
    else:
        check_at_least("--size", options.size, 1)
        _check_kind(open_records(config)[0], options.path)
        source, crop = open_source(config, (options.size, options.size, 3), 0), options.crop
    images = OfSource(source)
    pretrained = load_inception(options.inception)
    return accumulate(
        images,
        source.fingerprint(),
        make_extractor(pretrained, make_mesh(), options.resize),
        Extraction(images.shape[1:3], options.resize, pretrained.sha256),
        KEEP_REFERENCE,
        Path(options.out).parent,
    ).reference(source.fingerprint(), crop)


def _check_kind(kind: str, path: str) -> None:
    if kind != "image":
        raise UserError(f"{path}: holds examples of kind {kind}, not images")


def of_guided_diffusion(options: flags.FlagValues) -> Reference:
    """Published statistics, with the features of the images that lie beside them."""
    reference, images = import_guided_diffusion(Path(options.path), options.resize)
    if images is None:
        return reference
    extract = make_extractor(load_inception(options.inception), make_mesh(), options.resize)
    pools = []
    with progress(len(images), "images") as bar:
        for batch in images.batches(BATCH):
            pools.append(extract(batch).pool)
            bar.update(len(batch))
    return reference.with_features(np.concatenate(pools))


def main(options: flags.FlagValues) -> None:
    """Computes and writes what the flags say."""
    make = of_guided_diffusion if options.source == "guided_diffusion" else of_data
    with lock_path(Path(options.out)):
        reference = make(options)
        reference.save(Path(options.out))
    height, width = reference.extraction.resolution or ("?", "?")
    count = "an unknown number of" if reference.count is None else f"{reference.count:,}"
    say(f"{count} images of {height} x {width}, {options.resize}: {options.out}")


if __name__ == "__main__":
    arguments.choice("source", "folder", "What --path is.", SOURCES)
    arguments.path("path", None, "Folder, file, or TFDS directory or name.")
    flags.DEFINE_string("split", "train", "Of a TFDS directory.")
    arguments.side(
        "size", 0, "Side that images are cropped to; arrays stay as they are.", at_least=0
    )
    arguments.choice("crop", "centre", "How.", list(CROPS))
    arguments.file("inception", None, "Weights of FID's Inception.")
    resize = "How images become 299 pixels: guided-diffusion's, pytorch-fid's or clean-fid's."
    arguments.choice("resize", "tf1", resize, list(RESIZES))
    arguments.file("out", None, "File to write, .npz.")
    flags.mark_flags_as_required(["path", "inception", "out"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
