"""Write one shard of a data set, an ArrayRecord file."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import NamedTuple, Protocol

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from diffusion_jax.data.manifest import UNFINISHED
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import WriteError, sha256
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import SHARD

# A record to a chunk, for random access; images are compressed already and latents are noise.
OPTIONS = "group_size:1,uncompressed,max_parallelism:1"


class Records(Protocol):
    """The examples of a split that is to be written, which several threads may read.

    `records[index]` is {'image': bytes of a PNG or JPEG}, {'video': [bytes, ...]} or {'moments' and
    'moments_flipped': (h, w, 2c) float32}, with 'label', an integer, where the spec has classes.
    It raises `BadRecord` for what cannot be read.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


class Shard(NamedTuple):
    """A file that is to hold the records `start` to `stop` of a split."""

    split: str
    file: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """A function that writes any shard of a data set.

    Attributes:
      directory, spec, splits, on_bad_record: the arguments of `write_dataset`.
      stop: once set, shards that are being written are given up.
    """

    directory: Path
    spec: Spec
    splits: Mapping[str, Records]
    on_bad_record: str
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __call__(self, shard: Shard) -> dict:
        """Return the facts of a shard, which is written unless it is there and undamaged."""
        path = self.directory / shard.file
        facts_path = self.directory / UNFINISHED / f"{shard.file}.json"
        with contextlib.suppress(UserError):  # there are no facts, or they are damaged
            facts = read_json(facts_path, SHARD)
            acceptable = self.on_bad_record == "skip" or not facts["skipped"]
            is_same = facts["file"] == shard.file and path.is_file()
            if acceptable and is_same and sha256(path) == facts["sha256"]:
                return facts
        partial = facts_path.with_name(f"{shard.file}.partial")
        try:
            skipped = self._write_records(shard, partial)
            facts = {
                "file": shard.file,
                "records": shard.stop - shard.start - len(skipped),
                "bytes": partial.stat().st_size,
                "sha256": sha256(partial),
                "skipped": skipped,
            }
            with writing():
                write_json(facts_path, facts)
                partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        return facts

    def _write_records(self, shard: Shard, path: Path) -> list[dict]:
        """Write what a shard is to hold; return what was skipped."""
        skipped, features, records = [], self.spec.features(), self.splits[shard.split]
        with writing():
            writer = ArrayRecordWriter(str(path), OPTIONS)
        try:
            for index in range(shard.start, shard.stop):
                if self.stop.is_set():
                    raise CancelledError
                try:
                    record = records[index]
                except BadRecord as error:
                    if self.on_bad_record == "stop":
                        raise
                    skipped.append({"index": index, "reason": str(error)})
                    continue
                # TFDS leaves the order of the fields to chance; bytes must not depend on it.
                example = tf_example_pb2.Example.FromString(features.serialize_example(record))
                with writing():
                    writer.write(example.SerializeToString(deterministic=True))
        finally:
            with writing():
                writer.close()
        return skipped


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raise `WriteError` for errors of the system, and for the RuntimeErrors of ArrayRecord."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise WriteError(str(error)) from error
