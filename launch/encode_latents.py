"""Encode a data set, once, to moments of Stable Diffusion latents; a stopped command continues.

    python -m launch.encode_latents --source=folder --path=imagenet/train --size=256 \\
      --weights=sd-vae-ft-ema --out=data/imagenet256_latents
    python -m launch.encode_latents --source=tfds --path=data/photos256 --size=256 ...

Writes a TFDS directory of ArrayRecord shards with the moments of every image and of its mirror
image, from which training draws latents; configs/diffussm/latents.py trains on it. The weights are
those of diffusers' AutoencoderKL: the folder that save_pretrained writes, or one safetensors file.
Their config.json decides how latents are scaled, which is recorded for training. All devices share
each batch.
"""

from launch.common import arguments, cli

from pathlib import Path

from absl import flags

from diffusion_jax.autoencoder.encoding import EncodedRecords, recorded_settings
from diffusion_jax.console import say
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Decoded
from diffusion_jax.data.preparing import check_apart, write_split
from diffusion_jax.data.records import ON_BAD_RECORD
from diffusion_jax.data.sources import DataConfig, FittedSource, open_records
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.latents import load_autoencoder
from diffusion_jax.parallel.sharding import make_mesh


def main(options: flags.FlagValues) -> None:
    """Encode as the flags say."""
    out, size, crop = Path(options.out), options.size, options.crop
    config = DataConfig(
        *(options.source, options.path, options.split, crop), on_bad_record=options.on_bad_record
    )
    if options.source == "folder":
        check_apart(out, options.path)
    records = open_records(config)
    if records.kind != "image":
        raise UserError(
            f"{options.path}: holds examples of kind {records.kind}: latents are of images"
        )
    pretrained = load_autoencoder(options.weights)
    model = pretrained.model
    if size % model.factor:
        raise UserError(f"--size is {size}: it must be a multiple of {model.factor}")
    decoded = Decoded(records, (size, size, model.image_channels), crop)
    images = FittedSource(decoded, options.path, decoded.num_classes)
    side = size // model.factor
    source = {"fingerprint": records.fingerprint(), "size": size, "crop": crop}
    source |= {"weights": pretrained.sha256, **recorded_settings(model)}
    lines = write_split(
        out,
        Spec("latent", (side, side, 2 * model.latent_channels), records.class_names),
        "train",
        EncodedRecords(images, pretrained, options.batch_size, make_mesh()),
        source,
        workers=1,
        on_bad_record=options.on_bad_record,
    )
    say(*lines)


if __name__ == "__main__":
    arguments.choice("source", "folder", "What --path is.", ("folder", "tfds"))
    arguments.path("path", None, "Folder of images, or directory or name of a TFDS data set.")
    flags.DEFINE_string("split", "train", "Split of a TFDS directory to read.")
    arguments.path("weights", None, "Folder or safetensors file of the autoencoder.")
    arguments.folder("out", None, "Directory to write.")
    arguments.side("size", 256, "Side of the square to crop to, in pixels.")
    arguments.choice("crop", "box_halving", "How images are cropped to --size.", list(CROPS))
    arguments.count("batch_size", 64, "Images that are encoded at a time.")
    arguments.choice("on_bad_record", "stop", "What to do at an unreadable record.", ON_BAD_RECORD)
    flags.mark_flags_as_required(["path", "weights", "out"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
