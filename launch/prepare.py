"""Turn a data set, once, into a TFDS directory of ArrayRecord shards; a stopped command continues.

    python -m launch.prepare --source=folder --path=photos --size=64 --out=data/photos64
    python -m launch.prepare --source=npz --path=mine.npz --out=data/mine
    python -m launch.prepare --source=clips --path=videos --size=64 --out=data/videos64
    python -m launch.prepare --source=tfds --path=cifar10 --out=data    # wants the extra `tfds`
    python -m launch.prepare --verify --out=data/photos64

Images are cropped to --size and stored as PNG; without --size their files are stored as they are.
Train on the directory with --config.data.name=tfds --config.data.path=data/photos64; anybody's
tfds.builder_from_directory opens it. manifest.json counts and hashes what is in it.
"""

from launch.common import arguments, cli

import os
from pathlib import Path
from typing import Any

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.images import MODES
from diffusion_jax.data.manifest import verify
from diffusion_jax.data.preparing import SOURCES, open_originals, prepare_by_name, write_split
from diffusion_jax.data.records import ON_BAD_RECORD
from diffusion_jax.errors import UserError, check_choice


def main(options: flags.FlagValues) -> None:
    """Prepare or verify as the flags say."""
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
    how: dict[str, Any] = {name: options[name].value for name in ("size", "crop", "channels")}
    spec, records, fingerprint = open_originals(
        options.source, options.path, out, **how, on_bad_record=options.on_bad_record
    )
    lines = write_split(
        *(out, spec, options.split, records, {"fingerprint": fingerprint, **how}),
        workers=options.workers,
        on_bad_record=options.on_bad_record,
    )
    say(*lines)


if __name__ == "__main__":
    arguments.choice("source", "folder", "What --path is.", SOURCES)
    arguments.path("path", None, "Folder, file, or name of a TFDS data set.")
    arguments.folder("out", None, "Directory to write; for --source=tfds, TFDS's data_dir.")
    arguments.side(
        "size", 0, "Side of the square to crop to; 0 leaves images as they are.", at_least=0
    )
    arguments.choice("crop", "centre", "How images are cropped to --size.", list(CROPS))
    arguments.count("channels", 3, "1 for grey, 3 for RGB.")
    flags.DEFINE_string("split", "train", "Name of the split that is written.")
    arguments.count("workers", os.cpu_count(), "Threads that decode, crop, encode and write.")
    arguments.choice("on_bad_record", "stop", "What to do at an unreadable record.", ON_BAD_RECORD)
    flags.DEFINE_bool("verify", False, "Compare the files of --out with their hashes instead.")
    flags.mark_flag_as_required("out")
    cli.run(lambda: main(flags.FLAGS), __doc__)
