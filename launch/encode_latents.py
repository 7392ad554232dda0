"""Encodes a data set, once, to moments of Stable Diffusion latents; a stopped command continues.

    python -m launch.encode_latents --source=folder --path=imagenet/train --size=256 \\
      --weights=sd-vae-ft-ema --out=data/imagenet256_latents
    python -m launch.encode_latents --source=tfds --path=data/photos256 --size=256 ...

Writes a TFDS directory of ArrayRecord shards with the moments of every image and of its mirror
image, from which training draws latents; configs/diffussm/latents.py trains on it. The weights are
those of diffusers' AutoencoderKL: the folder that save_pretrained writes, or one safetensors file.
Their config.json decides how latents are scaled, which is recorded for training. All devices share
each batch.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from absl import flags

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Images
from diffusion_jax.data.records import ON_BAD_RECORD, BadRecord
from diffusion_jax.data.sources import DataConfig, FittedSource, Source, open_records
from diffusion_jax.data.spec import Spec
from diffusion_jax.data.stream import THREADS
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.latents import load_autoencoder
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, by_example, make_mesh, replicated, round_up
from launch import prepare
from launch.common import arguments, cli


class Moments:
    """Records for `write_dataset`: 'moments', 'moments_flipped' and 'label', a batch at a time.

    Batches start at multiples of their size, wherever the reading starts; the images of the next
    one are read while this one is encoded.
    """

    def __init__(self, images: Source, pretrained: Pretrained, batch_size: int, mesh: Mesh):
        self._images, self._batch_size = images, round_up(batch_size, mesh)
        self._encode = make_encoder(pretrained, mesh)
        self._pool = ThreadPoolExecutor(THREADS)
        self._read_ahead: dict[int, list[Future]] = {}
        self._start, self._records = None, []

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
        read = [future.result() for future in reading]
        images = np.zeros((self._batch_size, *self._images.shape), np.uint8)
        for image, example in zip(images, read, strict=False):  # the last batch is not full
            if not isinstance(example, BadRecord):
                image[:] = example["images"]
        moments = zip(*self._encode(images), strict=True)
        return [_record(*found) for found in zip(read, moments, strict=False)]

    def _submit(self, start: int) -> list[Future]:
        stop = min(start + self._batch_size, len(self))
        return [self._pool.submit(self._read, index) for index in range(start, stop)]

    def _read(self, index: int) -> dict | BadRecord:
        try:
            return self._images.read(index)
        except BadRecord as error:  # raised again when its turn comes
            return error


def _record(example: dict | BadRecord, moments: tuple[np.ndarray, np.ndarray]) -> dict | BadRecord:
    if isinstance(example, BadRecord):
        return example
    label = {"label": int(example["labels"])} if "labels" in example else {}
    return {"moments": moments[0], "moments_flipped": moments[1], **label}


def make_encoder(
    pretrained: Pretrained, mesh: Mesh
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(B, H, W, 3) uint8 -> packed moments (B, h, w, 2c) of the images and their mirror images."""

    def encode(params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def moments(images):
            images = process.to_model_range(images, 1.0)
            return pretrained.model.apply({"params": params}, images, method="encode").pack()

        return moments(images), moments(images[:, :, ::-1])

    encode = jax.jit(
        encode,
        in_shardings=(replicated(mesh), by_example(mesh)),
        out_shardings=by_example(mesh),
    )
    params = jax.device_put(pretrained.params, replicated(mesh))
    return lambda images: hosts.to_host(encode(params, hosts.put(images, mesh)))


def _recorded(model: Autoencoder) -> dict[str, float]:
    """Return what the manifest says of settings that the weights do not tell.

    It says nothing of Stable Diffusion's, so that sets encoded before it did are continued.
    """
    settings = {"norm_num_groups": model.groups, **model.scaling._asdict()}
    default = {"norm_num_groups": Autoencoder.groups, **STABLE_DIFFUSION._asdict()}
    return {} if settings == default else settings


def main(options: flags.FlagValues) -> None:
    """Encodes as the flags say."""
    config = DataConfig(
        options.source,
        options.path,
        options.split,
        options.crop,
        on_bad_record=options.on_bad_record,
    )
    if options.source == "folder":
        prepare.check_apart(Path(options.out), options.path)
    kind, records = open_records(config)
    if kind != "image":
        raise UserError(f"{options.path}: holds examples of kind {kind}: latents are of images")
    pretrained = load_autoencoder(options.weights)
    factor, channels = pretrained.model.factor, pretrained.model.latent_channels
    if options.size % factor:
        raise UserError(f"--size is {options.size}: it must be a multiple of {factor}")
    shape = (options.size, options.size, pretrained.model.image_channels)
    images = Images(records, shape, options.crop)
    images = FittedSource(images, options.path, images.num_classes)
    side = options.size // factor
    source = {
        "fingerprint": records.fingerprint(),
        "size": options.size,
        "crop": options.crop,
        "weights": pretrained.sha256,
        **_recorded(pretrained.model),
    }
    prepare.write(
        Path(options.out),
        Spec("latent", (side, side, 2 * channels), records.class_names),
        Moments(images, pretrained, options.batch_size, make_mesh()),
        source,
        "train",
        workers=1,
        on_bad_record=options.on_bad_record,
    )


if __name__ == "__main__":
    arguments.choice("source", "folder", "What --path is.", ("folder", "tfds"))
    arguments.path("path", None, "Folder, or TFDS directory or name.")
    flags.DEFINE_string("split", "train", "Of a TFDS directory.")
    arguments.path("weights", None, "Folder or safetensors file of the autoencoder.")
    arguments.folder("out", None, "Directory to write.")
    arguments.side("size", 256, "Side of the images, pixels.")
    arguments.choice("crop", "box_halving", "How they become so.", list(CROPS))
    arguments.count("batch_size", 64, "Images at a time.")
    arguments.choice("on_bad_record", "stop", "skip lists them.", ON_BAD_RECORD)
    flags.mark_flags_as_required(["path", "weights", "out"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
