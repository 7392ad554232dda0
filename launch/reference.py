"""Compute the statistics of a data set that launch.evaluate compares samples with, once.

    python -m launch.reference --source=npz --path=data/cifar10.npz \\
      --inception=inception.npz --out=data/references/cifar10.npz
    python -m launch.reference --path=imagenet/train --size=256 --crop=box_halving ...
    python -m launch.reference --source=guided_diffusion --path=VIRTUAL_imagenet256_labeled.npz ...

--inception are the weights of FID's Inception: pytorch-fid's .pth, or the same as .npz or
.safetensors. The last form takes over the statistics that guided-diffusion published, and computes
the features of the images beside them, for precision and recall. A stopped command continues.
"""

from launch.common import arguments, cli

import functools
from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.sources import DataConfig
from diffusion_jax.evaluation.extractor import load_extractor
from diffusion_jax.evaluation.resize import RESIZES
from diffusion_jax.experiment.features import reference_of_data, reference_of_guided_diffusion
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_path

SOURCES = ("folder", "npz", "tfds", "guided_diffusion")


def main(options: flags.FlagValues) -> None:
    """Compute the statistics and write them to --out."""
    out, resize = Path(options.out), options.resize
    load = functools.partial(load_extractor, options.inception, make_mesh(), resize)
    with lock_path(out):
        if options.source == "guided_diffusion":
            reference = reference_of_guided_diffusion(Path(options.path), resize, load, out.parent)
        else:
            config = DataConfig(options.source, options.path, options.split, options.crop)
            reference = reference_of_data(config, options.size, load, out.parent)
        reference.save(out)
    height, width = reference.extraction.resolution or ("?", "?")
    count = "an unknown number of" if reference.num_images is None else f"{reference.num_images:,}"
    say(f"{count} images of {height} x {width}, {resize}: {out}")


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
