"""Prepare a data set: encode its images once, check that they decode, and write them as shards."""

import dataclasses
import io
import re
import shlex
from pathlib import Path
from typing import Any

from PIL import Image

from diffusion_jax.console import progress, say
from diffusion_jax.data import writer
from diffusion_jax.data.arrays import Arrays, npz
from diffusion_jax.data.clips import ClipFolder, decode_clip
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.encoded import Records
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.images import decode_image, from_pixels, is_plain
from diffusion_jax.data.records import naming
from diffusion_jax.data.shards import FORMAT, dataset_name, write_dataset
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError

SOURCES = ("folder", "npz", "clips", "tfds")


@dataclasses.dataclass(frozen=True)
class PreparedFiles:
    """Records of files, encoded such that any reader of PNG and JPEG sees what we do.

    'image' is the file itself where `decode_image` and a plain reader agree and nothing is cropped,
    else a PNG; 'video' is all frames of a clip as PNG.

    Attributes:
      records: an `ImageFolder`, a `ClipFolder`, or others like them.
      channels: 1 (grey) or 3 (RGB).
      size: side of the square to crop to, 0 to leave images as large as they are.
      crop: a name of `CROPS`.
    """

    records: Records
    channels: int
    size: int
    crop: str

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        record = self.records.record(index)
        with naming(self.records.name(index)):
            if "clip" in record:
                frames = decode_clip(record.pop("clip"), self.channels)
                return record | {"video": [self._encode(frame) for frame in frames]}
            image = decode_image(record["image"], self.channels)
        if self.size or not is_plain(record["image"], self.channels):
            record["image"] = self._encode(image)
        return record

    def _encode(self, image: Image.Image) -> bytes:
        return encode_png(CROPS[self.crop](image, self.size, self.size) if self.size else image)


@dataclasses.dataclass(frozen=True)
class PreparedArrays:
    """Records of arrays: 'image' or 'video' as PNG."""

    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> dict:
        example = self.arrays.read(index)
        record = {"label": int(example["labels"])} if "labels" in example else {}
        if self.arrays.kind == "image":
            return record | {"image": encode_png(from_pixels(example["images"]))}
        return record | {"video": [encode_png(from_pixels(frame)) for frame in example["images"]]}


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as PNG, which loses nothing."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def open_originals(
    source: str, path: str, out: Path, size: int, crop: str, channels: int, on_bad_record: str
) -> tuple[Spec, writer.Records, str]:
    """Open what is to be prepared.

    Args:
      source: 'folder', 'npz' or 'clips'.
      path: of the folder or file.
      out: the directory that will be written.
      size: side of the square to crop files to; 0 leaves them as they are.
      crop: a name of `CROPS`.
      channels: 1 (grey) or 3 (RGB), of files.
      on_bad_record: 'stop' also looks for files that cannot be read before anything is written.

    Returns:
      (the spec of what is written, its records, the fingerprint of what they are made from).

    Raises:
      UserError: for a source that cannot be read, or that would be written into.
    """
    if source == "npz":
        arrays = npz(path)
        names = tuple(map(str, range(arrays.num_classes))) or None
        spec = Spec(arrays.kind, arrays.shape, names)
        return spec, PreparedArrays(arrays), arrays.fingerprint()
    check_apart(out, path)
    folder = ClipFolder(path) if source == "clips" else ImageFolder(path)
    if on_bad_record == "stop":
        folder.check_files()
    side = size or None  # None: it differs between examples, as the number of frames does
    shape = (side, side, channels) if folder.kind == "image" else (None, side, side, channels)
    spec = Spec(folder.kind, shape, folder.class_names)
    return spec, PreparedFiles(folder, channels, size, crop), folder.fingerprint()


def check_apart(out: Path, path: str) -> None:
    """Raise `UserError` if what is written would lie in the folder of images that is read."""
    if out.resolve().is_relative_to(Path(path).resolve()):
        raise UserError(f"--out {out} lies in --path {path}: give a folder outside of it")


def prepare_by_name(name: str, data_dir: Path) -> Path:
    """Have TFDS download a data set and write it as ArrayRecord.

    Returns:
      Its directory.

    Raises:
      UserError: if TFDS has no such data set, cannot prepare it, or lacks what it needs for that.
    """
    import tensorflow_datasets as tfds

    from diffusion_jax.data.features import check_classes

    check_classes(data_dir / re.split("[:/]", name)[0])  # TFDS opens what is there already
    say(f"Preparing {name} in {data_dir}...")
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format=FORMAT)
        builder.download_and_prepare()
    except ImportError as error:
        raise UserError(f"{name}: {error}: pip install -e '.[tfds]', for this once") from error
    except (tfds.core.DatasetNotFoundError, AssertionError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: TFDS cannot prepare it: {reason}") from error
    return Path(builder.data_dir)


def write_split(
    out: Path, spec: Spec, split: str, records: writer.Records, source: dict, **how: Any
) -> list[str]:
    """Write one split, and show how far it is.

    The arguments are those of `write_dataset`, which takes `how` as well.

    Returns:
      Lines that say what was written, what was skipped, and how to train on it.
    """
    name = dataset_name(out)
    say(f"Writing {len(records):,} record{'s' * (len(records) != 1)} to {out}...")
    with progress(len(records), "records") as bar:
        how["progress"] = lambda done, total: bar.update(done - bar.n)
        manifest = write_dataset(out, spec, {split: records}, name=name, source=source, **how)
    facts = manifest["splits"][split]
    skipped = [f"  {bad['reason']}" for shard in facts["shards"] for bad in shard["skipped"]]
    classes = f", {len(spec.class_names)} classes" if spec.class_names else ""
    count = len(facts["shards"])
    lines = [f"{facts['records']:,} records{classes} in {count} shard{'s' * (count > 1)}: {out}"]
    if skipped:
        lines += [f"Skipped, and listed in manifest.json: {len(skipped)}", *skipped[:10]]
    at = shlex.quote(str(out))
    return [*lines, f"Train: --config.data.name=tfds --config.data.path={at}"]
