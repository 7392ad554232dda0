"""Read a data set that was prepared as ArrayRecord, by us or by TFDS, record by record.

`tfds.data_source` reads it too, and we do not use it, for three reasons that were measured. It
keeps one file open for each shard it has touched, all 1,024 of ImageNet, which is as many as a
process may open by default. It raises the same RuntimeError for one damaged record, which may be
skipped, and for a shard whose index is damaged, which must not be taken for a thousand bad records.
And it imports every class that features.json names, see `features`.
"""

import bisect
import functools
import hashlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf import json_format
from tensorflow_datasets.core.proto import dataset_info_pb2
from tensorflow_datasets.core.utils.version import list_all_versions
from tensorflow_datasets.proto import tf_example_pb2

from diffusion_jax.data.arrays import as_labels
from diffusion_jax.data.features import FEATURES, read_features, read_metadata
from diffusion_jax.data.manifest import (
    AGAIN,
    UNFINISHED,
    check_sizes,
    read_manifest,
    recorded_scaling,
)
from diffusion_jax.data.records import BadRecord, decoding, naming
from diffusion_jax.data.spec import MOMENTS, Spec, has_labels
from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.untrusted import check_utf8, inside

INFO = "dataset_info.json"
FORMAT = "array_record"

DATA_DIR = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
OPEN_FILES = 512  # TFDS's ImageNet has 1,024 shards, as many as a process may open by default
OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access


def find_directory(name: str, data_dir: Path = DATA_DIR) -> Path:
    """Return the directory of a prepared data set.

    Args:
      name: a directory, or what TFDS calls it, to be found below `data_dir`: 'mnist',
        'mnist:3.0.1', 'imagenet_resized/64x64'. Of several versions, the last is taken.

    Raises:
      UserError: if there is none.
    """
    places = [Path(name).expanduser(), Path(data_dir).expanduser() / name.replace(":", "/")]
    for place in places:
        if os.path.isfile(place / INFO) or os.path.isdir(place / UNFINISHED):
            return place
        if os.path.isdir(place) and (versions := list_all_versions(place)):
            return place / str(versions[-1])
    raise UserError(
        f"{name}: no prepared data set at {' or '.join(map(str, places))}: prepare it by "
        "launch.prepare, or by tfds build --file_format=array_record"
    )


class Prepared:
    """Random access to the records of a split; images stay encoded.

    It may be read by several threads, and pickled.

    Args:
      directory: see `find_directory`.
      split: as TFDS writes it: 'train', 'train[:1000]', 'train[90%:]'.

    Attributes:
      spec: kind, shape, and the class names of a ClassLabel.
      kind, shape: see `Records`.
      scaling: of latents, see `recorded_scaling`.

    Raises:
      UserError: for a directory that is unfinished, damaged or no ArrayRecord, an unknown split, or
        features that no `Spec` describes.
    """

    def __init__(self, directory: Path, split: str):
        self.directory, self.split = Path(directory), split
        check_utf8(self.directory, "the directory")
        self._manifest = read_manifest(self.directory)
        if self._manifest:
            check_sizes(self.directory, self._manifest)
        self.scaling = recorded_scaling(self.directory, self._manifest)
        splits, features = _read_splits(self.directory), read_features(self.directory)
        self.spec, self._has_labels = Spec.of(features, self.directory), has_labels(features)
        self.kind = self.spec.kind
        self.shape = self.spec.sizes if self.kind == "latent" else None
        try:
            self._parts = splits[split].file_instructions
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{directory}: no split {split!r}: it has {', '.join(splits)}"
            ) from error
        for part in self._parts:
            if not Path(part.filename).is_file():
                raise UserError(f"{part.filename}: this shard is missing: copy it here")
        self._ends = list(itertools.accumulate(part.take for part in self._parts))
        if not any(self._ends):
            raise UserError(f"{directory}: there are no records in {split!r}: give another split")
        self._reader = functools.lru_cache(OPEN_FILES)(self._open)

    def __reduce__(self):
        return Prepared, (self.directory, self.split)

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int) -> dict:
        """Return one example.

        Returns:
          {'image': bytes}, {'video': [bytes, ...]} or {'moments' and 'moments_flipped': (h, w, 2c)
          float32, read-only}; and 'label', an int, if it has one.

        Raises:
          BadRecord: if it is damaged.
          UserError: if its whole shard is damaged or gone.
          IndexError: for an index outside [0, len).
        """
        fields = self._fields(index)
        with naming(self.name(index)), decoding():
            if self.kind == "image":
                record = {"image": fields["image"].bytes_list.value[0]}
            elif self.kind == "video":
                record = {"video": list(fields["video"].bytes_list.value)}
            else:  # as `Spec.features` has them encoded; TFDS would unpack others to any size
                moments = {field: fields[field].bytes_list.value[0] for field in MOMENTS}
                record = {
                    field: np.frombuffer(encoded, np.float32).reshape(self.spec.sizes)
                    for field, encoded in moments.items()
                }
            return record | (_label(fields) if self._has_labels else {})

    @functools.cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """Return names by label; None without labels.

        Labels that are plain integers are named by their numbers. TFDS's metadata does not say how
        many there are, so that all records are read, about 100,000 of them a second.

        Raises:
          UserError: for integers that cannot be labels, see `as_labels`.
        """
        if self.spec.class_names is not None or not self._has_labels:
            return self.spec.class_names
        # Without the length, which is only announced until the shards are opened.
        labels = np.fromiter(map(self._integer_label, range(len(self))), np.int64)
        largest = as_labels(labels, len(self), str(self.directory)).max()
        return tuple(str(label) for label in range(largest + 1))

    def _integer_label(self, index: int) -> int:
        """Return a record's label, or 0 where it has none or is damaged: `record` will say so."""
        try:
            return _label(self._fields(index)).get("label", 0)
        except BadRecord:
            return 0

    def name(self, index: int) -> str:
        """Return the file of a record and its number there, for messages."""
        part, position = self._locate(index)
        return f"{self._parts[part].filename}, record {position}"

    def fingerprint(self) -> str:
        """Return a hash of our manifest's hashes, or of TFDS's metadata, and of the split."""
        if self._manifest:
            content = self._manifest["fingerprint"]
        else:
            shards = [(Path(part.filename).name, part.examples_in_shard) for part in self._parts]
            sizes = [Path(part.filename).stat().st_size for part in self._parts]
            metadata = [(self.directory / name).read_text() for name in (INFO, FEATURES)]
            content = repr((metadata, shards, sizes))
        return hashlib.sha256(f"{content} {self.split}".encode()).hexdigest()

    def _fields(self, index: int) -> Mapping[str, Any]:
        part, position = self._locate(index)
        reader = self._reader(part)
        with naming(self.name(index)), decoding():
            try:
                raw = reader.read(position, position + 1)[0]
            except RuntimeError as error:  # the hashes of ArrayRecord cover every byte of a record
                raise BadRecord(f"damaged ({error}): copy the file again") from error
            return tf_example_pb2.Example.FromString(raw).features.feature

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the shard, and the position in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        end = self._parts[part].skip + self._parts[part].take
        return part, end - (self._ends[part] - index)

    def _open(self, part: int) -> ArrayRecordReader:
        path, expected = self._parts[part].filename, self._parts[part].examples_in_shard
        try:
            reader = ArrayRecordReader(path, OPTIONS, file_reader_buffer_size=1 << 14)
        except RuntimeError as error:
            raise UserError(
                f"{path}: cannot be opened ({error}): copy it here, or {AGAIN}"
            ) from error
        if (count := reader.num_records()) != expected:  # 0 if its index is damaged, and no error
            raise UserError(f"{path}: damaged: {count} of {expected} records: copy it, or {AGAIN}")
        return reader


def _label(fields: Mapping[str, Any]) -> dict[str, int]:
    """Return {'label': an int}, or {} if a record has none."""
    values = fields["label"].int64_list.value if "label" in fields else ()
    return {"label": values[0]} if values else {}


def _read_splits(directory: Path) -> tfds.core.SplitDict:
    """Return the splits that dataset_info.json describes; their files are in the directory."""
    path = directory / INFO
    if not path.is_file():
        raise UserError(f"{directory}: no {INFO}: give a directory of TFDS")
    content, info = read_metadata(path), dataset_info_pb2.DatasetInfo()
    try:
        json_format.ParseDict(content, info, ignore_unknown_fields=True)
        for split in info.splits:  # formatting may insert the values of variables, and no more
            if {"{", "}"} & set(re.sub(r"\{[A-Z_]+\}", "", split.filepath_template)):
                raise ValueError(f"the names of its files are {split.filepath_template!r}")
        template = tfds.core.ShardedFileTemplate(
            dataset_name=info.name, data_dir=directory, filetype_suffix=info.file_format or None
        )
        splits = tfds.core.SplitDict.from_proto(info.splits, template)
        files = [
            split.filename_template.relative_filepath(shard_index=0, num_shards=split.num_shards)
            for split in splits.values()
        ]
        if any(length < 0 for split in splits.values() for length in split.shard_lengths):
            raise ValueError("a shard of fewer than 0 records")
    except Exception as error:  # what is raised depends on what is wrong
        raise UserError(f"{path} is damaged ({error}): {schemas.TFDS.advice}") from error
    if info.file_format != FORMAT:
        raise UserError(
            f"{directory}: prepared as {info.file_format or 'tfrecord'}, which has no random "
            "access: prepare it again by tfds build --file_format=array_record, in another data_dir"
        )
    for file in files:  # the names of the other shards differ in their numbers alone
        inside(directory, file, path)
    return splits
