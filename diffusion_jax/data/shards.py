"""Write a data set, once, as a TFDS directory of ArrayRecord shards.

    NAME-SPLIT.array_record-00000-of-00012 ...       what `tfds.builder_from_directory` opens, with
    dataset_info.json features.json label.labels.txt     these
    manifest.json    counts and hashes; written last: with it, the directory is complete
    unfinished/      until then: the request, and the facts of every shard that is done

A shard holds a fixed range of the indices of its split, less the records that were skipped, so its
bytes depend neither on the number of threads nor on interruptions.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import reprlib
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import tensorflow_datasets as tfds

from diffusion_jax.data.manifest import MANIFEST, UNFINISHED, load_manifest, shards_of
from diffusion_jax.data.records import ON_BAD_RECORD
from diffusion_jax.data.spec import Spec
from diffusion_jax.data.writer import Records, Shard, ShardWriter, writing
from diffusion_jax.errors import UserError, check_at_least, check_choice
from diffusion_jax.storage.files import WriteError, sha256
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.locks import lock_folder
from diffusion_jax.storage.schemas import PREPARATION
from diffusion_jax.storage.untrusted import check_before_writing, check_utf8

REQUEST = "request.json"
FORMAT = "array_record"
# Characters; with them, the names of files, unfinished ones too, stay below 255 bytes.
LONGEST_NAME, LONGEST_SPLIT = 100, 25


def dataset_name(directory: Path) -> str:
    """Return what TFDS is to call the data set in a directory, made of the directory's name.

    TFDS takes ASCII letters, digits and underscores, a letter first; directories have any name.
    """
    name = re.sub("[^a-z0-9_]", "_", directory.name.lower())
    return (name if re.match("[a-z]", name) else f"data_{name}")[:LONGEST_NAME]


def write_dataset(
    directory: Path,
    spec: Spec,
    splits: Mapping[str, Records],
    *,
    name: str,
    source: dict[str, object],
    workers: int,
    records_per_shard: int = 2048,
    on_bad_record: str = "stop",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Write a data set, or what is missing of it; of a complete one it only reads the manifest.

    Shards that are there are kept if their hash is right. So a complete directory out of which a
    damaged shard was deleted is repaired.

    Args:
      directory: is made; may hold only what an earlier call with the same arguments left.
      splits: by name: 'train', ...
      name: of the data set in TFDS, see `dataset_name`.
      source: what else decides the records, as JSON: a fingerprint of the files, sizes, versions.
      workers: threads; 1 writes in this one, for records that only one may read.
      on_bad_record: 'stop' raises the `BadRecord`; 'skip' leaves it out and lists it.
      progress: called after every shard, with the records done and all of them.

    Returns:
      The manifest: 'name', 'kind', 'shape', 'class_names'; 'splits', by name 'records', 'skipped'
      and 'shards', each of these with 'file', 'records', 'bytes', 'sha256' and 'skipped', a list
      of {'index', 'reason'}; 'metadata', the hash by file; 'fingerprint' of all that is in the
      records; 'request', the arguments.

    Raises:
      BadRecord: of the records, under 'stop'.
      UserError: for a directory of something else, a full disk, or splits without records.
    """
    directory = Path(directory)
    check_choice("on_bad_record", on_bad_record, ON_BAD_RECORD)
    check_at_least("workers", workers, 1)
    check_at_least("records_per_shard", records_per_shard, 1)
    check_utf8(directory, "the directory")
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: give a directory")
    _check_name("data set", name, LONGEST_NAME)
    request = {"name": name, **dataclasses.asdict(spec), "records_per_shard": records_per_shard}
    shards = []
    for split, records in splits.items():
        _check_name("split", split, LONGEST_SPLIT)
        request[f"records.{split}"] = len(records)
        shards += _cut(name, split, len(records), records_per_shard)
    request |= {f"source.{key}": value for key, value in source.items()}
    request = json.loads(json.dumps(request))  # with lists for tuples, as it will be read back
    done: dict[str, dict] = {}
    try:
        if manifest := _complete(directory, request):
            return manifest
        write = ShardWriter(directory, spec, splits, on_bad_record)
        with (
            _begun(directory, request),
            contextlib.closing(_write_all(write, shards, workers)) as results,
        ):
            finished, total = 0, sum(map(len, splits.values()))
            for facts in results:
                done[facts["file"]] = facts
                finished += facts["records"] + len(facts["skipped"])
                progress(finished, total)
            return _finish(directory, spec, request, shards, done)
    except WriteError as error:
        share = sum(facts["bytes"] for facts in done.values()) / max(len(done), 1)
        need = f"about {share * (len(shards) - len(done)) / 1e6:.1f} MB" if done else "more"
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        raise UserError(
            f"{directory}: writing failed ({error}) with {len(done)} of {len(shards)} shards done: "
            f"{shutil.disk_usage(there).free / 1e6:.1f} MB are free there, and the rest needs "
            f"{need}: make room, or mend what else is wrong, and the same command continues"
        ) from error


def _check_name(kind: str, name: str, longest: int) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or len(name) > longest:
        raise UserError(
            f"{name!r} cannot name a {kind}: use a letter and up to {longest - 1} of a-z, 0-9 and _"
        )


def _cut(name: str, split: str, count: int, size: int) -> Iterator[Shard]:
    """Cut the indices of a split into shards of `size`; the last one may have fewer."""
    if count == 0:
        raise UserError(f"there are no records for {split!r}: check where they are looked for")
    shards = -(-count // size)
    for k in range(shards):
        file = f"{name}-{split}.{FORMAT}-{k:05d}-of-{shards:05d}"
        yield Shard(split, file, k * size, min((k + 1) * size, count))


def _complete(directory: Path, request: dict) -> dict | None:
    """Return the manifest if nothing is missing.

    Raises:
      UserError: where another request was begun, or for a directory of something else.
    """
    begun = directory / UNFINISHED / REQUEST
    if (directory / MANIFEST).is_file():
        manifest = load_manifest(directory)
        _check_same(directory, manifest["request"], request)
        if all((directory / shard["file"]).is_file() for shard in shards_of(manifest)):
            return manifest
    elif begun.is_file():
        _check_same(directory, read_json(begun, PREPARATION), request)
    elif directory.exists() and any(path.name != UNFINISHED for path in directory.iterdir()):
        raise UserError(f"{directory}: holds files that are not ours: give an empty directory")
    return None


def _check_same(directory: Path, begun: dict, request: dict) -> None:
    for key in sorted(begun | request):
        old, new = begun.get(key), request.get(key)
        if old != new:
            raise UserError(
                f"{directory}: was begun with {key} = {reprlib.repr(old)}, and now it is "
                f"{reprlib.repr(new)}: give another directory, or what it was begun with"
            )


@contextlib.contextmanager
def _begun(directory: Path, request: dict) -> Iterator[None]:
    """Make the folder of what is unfinished, for one command at a time; remove it at the end."""
    unfinished = directory / UNFINISHED
    for folder in (directory, unfinished):
        check_before_writing(folder)
    with lock_folder(unfinished):
        with writing():
            write_json(unfinished / REQUEST, request)
            if (directory / MANIFEST).is_file():  # and shards are missing
                for facts in shards_of(load_manifest(directory)):
                    write_json(unfinished / f"{facts['file']}.json", facts)
                (directory / MANIFEST).unlink()
            for partial in unfinished.glob("*.partial"):
                partial.unlink()
        yield
        with writing():
            shutil.rmtree(unfinished)


def _write_all(
    write: ShardWriter, shards: list[Shard], workers: int
) -> Generator[dict, None, None]:
    """Yield the facts of each shard when it is written.

    Threads suffice, since Pillow and PyAV release the interpreter's lock while they work: they
    decode, crop and encode a photo in 1.6 ms, and its record is serialised and written in 25 us.
    """
    if workers == 1:
        yield from map(write, shards)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(write, shard) for shard in shards]):
            yield future.result()
    finally:  # of a failure or Ctrl-C: the others end after the record that they are at
        write.stop.set()
        pool.shutdown(cancel_futures=True)


def _finish(
    directory: Path, spec: Spec, request: dict, shards: list[Shard], done: dict[str, dict]
) -> dict:
    """Write TFDS's metadata and, last, the manifest; return it."""
    splits, about = {}, dataclasses.asdict(spec)
    for split in dict.fromkeys(shard.split for shard in shards):
        facts = [done[shard.file] for shard in shards if shard.split == split]
        records = sum(shard["records"] for shard in facts)
        skipped = sum(len(shard["skipped"]) for shard in facts)
        splits[split] = {"records": records, "skipped": skipped, "shards": facts}
        if not records:
            reason = facts[0]["skipped"][0]["reason"]
            raise UserError(f"{directory}: no record of {split!r} can be read: {reason}")
    hashes = {split: [shard["sha256"] for shard in splits[split]["shards"]] for split in splits}
    content = json.dumps([about, hashes])
    manifest = {
        "name": request["name"],
        **about,
        "splits": splits,
        "request": request,
        "metadata": _write_metadata(directory, spec, request["name"], splits),
        "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
    }
    write_json(directory / MANIFEST, manifest)
    return load_manifest(directory)


def _write_metadata(
    directory: Path, spec: Spec, name: str, splits: dict[str, dict]
) -> dict[str, str]:
    """Write what TFDS opens the directory by; return the hash of each file."""
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard["records"] for shard in facts["shards"]],
            num_bytes=sum(shard["bytes"] for shard in facts["shards"]),
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name=name, data_dir=directory, split=split, filetype_suffix=FORMAT
            ),
        )
        for split, facts in splits.items()
    ]
    with writing():
        tfds.folder_dataset.write_metadata(
            data_dir=directory,
            features=spec.features(),
            split_infos=infos,
            version="1.0.0",
            check_data=False,  # by TensorFlow
        )
    paths = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".txt"))
    return {path.name: sha256(path) for path in paths}
