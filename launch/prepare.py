"""Turns a data set, once, into a TFDS directory of ArrayRecord shards; a stopped command continues.

    python -m launch.prepare --source=folder --path=photos --size=64 --out=data/photos64
    python -m launch.prepare --source=npz --path=mine.npz --out=data/mine
    python -m launch.prepare --source=clips --path=videos --size=64 --out=data/videos64
    python -m launch.prepare --source=tfds --path=cifar10 --out=data    # wants the extra `prepare`
    python -m launch.prepare --verify --out=data/photos64

Images are cropped to --size and stored as PNG; without --size their files are stored as they are.
Train on the directory with --config.data.name=tfds --config.data.path=data/photos64; anybody's
tfds.builder_from_directory opens it. manifest.json counts and hashes what is in it.
"""

import os
import re
import shlex
from pathlib import Path

from absl import flags

from diffusion_jax.console import progress, say
from diffusion_jax.data.arrays import npz
from diffusion_jax.data.clips import ClipFolder
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.images import MODES
from diffusion_jax.data.manifest import verify
from diffusion_jax.data.preparing import PreparedArrays, PreparedClips, PreparedImages
from diffusion_jax.data.records import ON_BAD_RECORD
from diffusion_jax.data.shards import dataset_name, write_dataset
from diffusion_jax.data.spec import Spec
from diffusion_jax.data.writer import Records
from diffusion_jax.errors import UserError, check_choice
from launch.common import arguments, cli

SOURCES = ("folder", "npz", "clips", "tfds")


def check_apart(out: Path, path: str) -> None:
    """Raise `UserError` if what is written would lie in the folder of images that is read."""
    if out.resolve().is_relative_to(Path(path).resolve()):
        raise UserError(f"--out {out} lies in --path {path}: give a folder outside of it")


def open_records(options: flags.FlagValues) -> tuple[Spec, Records, str]:
    """(what is written, its records, the fingerprint of what they are made from)."""
    if options.source == "npz":
        source = npz(options.path)
        names = tuple(str(label) for label in range(source.num_classes)) or None
        spec = Spec(source.kind, source.shape, names)
        return spec, PreparedArrays(source), source.fingerprint()
    check_apart(Path(options.out), options.path)
    size = (options.size, options.size) if options.size else None
    how = (options.channels, size, options.crop)
    shape = (*(size or (None, None)), options.channels)
    is_clips = options.source == "clips"
    records = ClipFolder(options.path) if is_clips else ImageFolder(options.path)
    if options.on_bad_record == "stop":
        records.check_files()
    if is_clips:
        spec = Spec("video", (None, *shape), records.class_names)
        return spec, PreparedClips(records, *how), records.fingerprint()
    spec = Spec("image", shape, records.class_names)
    return spec, PreparedImages(records, *how), records.fingerprint()


def prepare_by_name(name: str, data_dir: Path) -> Path:
    """TFDS downloads a data set and writes it as ArrayRecord; returns its directory."""
    import tensorflow_datasets as tfds

    from diffusion_jax.data.features import check_classes

    check_classes(data_dir / re.split("[:/]", name)[0])  # TFDS opens what is there already
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except ImportError as error:
        raise UserError(f"{name}: {error}: pip install -e '.[prepare]', for this once") from error
    except (tfds.core.DatasetNotFoundError, AssertionError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: TFDS cannot prepare it: {reason}") from error
    return Path(builder.data_dir)


def main(options: flags.FlagValues) -> None:
    """Prepares or verifies as the flags say."""
    out = Path(options.out)
    if options.verify:
        say(f"{out}: all {verify(out)} files are as they were written")
        return
    if options.path is None:
        raise UserError("--path is missing: give what is to be prepared")
    check_choice("--channels", str(options.channels), map(str, MODES))
    if options.source == "tfds":
        say(f"Prepared: {prepare_by_name(options.path, out)}")
        return
    spec, records, fingerprint = open_records(options)
    how = {name: options[name].value for name in ("size", "crop", "channels")}
    source = {"fingerprint": fingerprint, **how}
    write(out, spec, records, source, options.split, options.workers, options.on_bad_record)


def write(
    out: Path,
    spec: Spec,
    records: Records,
    source: dict[str, object],
    split: str,
    workers: int,
    on_bad_record: str,
) -> None:
    """Writes one split with a bar, and prints what was written; see `write_dataset`."""
    with progress(len(records), "records") as bar:
        manifest = write_dataset(
            out,
            spec,
            {split: records},
            name=dataset_name(out),
            source=source,
            workers=workers,
            on_bad_record=on_bad_record,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    say(*_summary(out, manifest["splits"][split], spec))


def _summary(out: Path, split: dict, spec: Spec) -> list[str]:
    skipped = [f"  {bad['reason']}" for shard in split["shards"] for bad in shard["skipped"]]
    classes = f", {len(spec.class_names)} classes" if spec.class_names else ""
    count = len(split["shards"])
    shards = f"{count} shard{'s' * (count > 1)}"
    lines = [f"{split['records']:,} records{classes} in {shards}: {out}"]
    if skipped:
        lines += [f"Skipped, and listed in manifest.json: {len(skipped)}", *skipped[:10]]
    at = shlex.quote(str(out))
    return [*lines, f"Train: --config.data.name=tfds --config.data.path={at}"]


if __name__ == "__main__":
    arguments.choice("source", "folder", "What --path is.", SOURCES)
    arguments.path("path", None, "Folder, file, or name of a TFDS data set.")
    arguments.folder("out", None, "Directory to write; of --source=tfds, TFDS's data_dir.")
    arguments.side(
        "size", 0, "Side of the square to crop to; 0 leaves images as they are.", at_least=0
    )
    arguments.choice("crop", "centre", "How.", list(CROPS))
    arguments.count("channels", 3, "1 for grey, 3 for RGB.")
    flags.DEFINE_string("split", "train", "Name of the split that is written.")
    arguments.count("workers", os.cpu_count(), "Processes.")
    arguments.choice("on_bad_record", "stop", "skip lists them.", ON_BAD_RECORD)
    flags.DEFINE_bool("verify", False, "Compare the files of --out with their hashes instead.")
    flags.mark_flag_as_required("out")
    cli.run(lambda: main(flags.FLAGS), __doc__)
