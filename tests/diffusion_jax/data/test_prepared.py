"""What was prepared, by us or by TFDS, is read as it was written, or not at all."""

import io
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from toy_records import Images, Latents, Videos, moments, pixels, png

from diffusion_jax.data.manifest import MANIFEST, verify
from diffusion_jax.data.prepared import Prepared, find_directory
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.shards import dataset_name, write_dataset
from diffusion_jax.data.sources import DataConfig, open_source
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError

IMAGES = Spec("image", (4, 5, 3), ("ant", "bee", "cat"))
SECOND = "toy-train.array_record-00001-of-00003"


def write(directory: Path, records, spec: Spec, records_per_shard: int = 4) -> Path:
    write_dataset(
        directory,
        spec,
        {"train": records},
        name="toy",
        source={},
        workers=1,
        records_per_shard=records_per_shard,
    )
    return directory


@pytest.fixture
def images(tmp_path) -> Path:
    """Ten images in three shards."""
    return write(tmp_path / "images", Images(), IMAGES)


class ByTfds(tfds.core.GeneratorBasedBuilder):
    """The same images, prepared as TFDS does it, in an order of its own."""

    VERSION = tfds.core.Version("1.10.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=IMAGES.features())

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(10):
            yield index, {"image": io.BytesIO(png(pixels(index))), "label": index % 3}


def flip(path: Path, position: int, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_images_come_back_encoded_as_they_were_given(images):
    prepared = Prepared(images, "train")
    assert prepared.spec == IMAGES
    records = Images()
    assert [prepared.record(i) for i in range(len(prepared))] == [records[i] for i in range(10)]
    assert prepared.name(5) == f"{images / SECOND}, record 1"
    with pytest.raises(IndexError):
        prepared.record(10)


def test_videos_and_latents_come_back(tmp_path):
    videos = Prepared(write(tmp_path / "v", Videos(), Spec("video", (3, 4, 5, 3))), "train")
    assert [videos.record(i) for i in range(2)] == [Videos()[i] for i in range(2)]
    spec = Spec("latent", (2, 3, 8), ("x", "y"))
    latents = Prepared(write(tmp_path / "l", Latents(), spec), "train")
    assert (videos.spec, latents.spec) == (Spec("video", (3, 4, 5, 3)), spec)
    for index in range(4):
        record = latents.record(index)
        np.testing.assert_array_equal(record["moments"], moments(index))
        np.testing.assert_array_equal(record["moments_flipped"], moments(index)[:, ::-1])
        assert record["label"] == index % 2


@pytest.mark.parametrize(
    "name",
    ["64px", "2024-11-28", "写真", "été.v2", "my photos", "_", "-", "Größe" * 20, "{x}", "a" * 255],
)
def test_a_directory_may_have_any_name(tmp_path, name):
    """TFDS opens it too, by a name made of the directory's."""
    directory = tmp_path / name
    write_dataset(
        *(directory, IMAGES, {"train": Images()}),
        name=dataset_name(directory),
        source={},
        workers=1,
    )
    assert len(Prepared(find_directory(str(directory)), "train")) == 10
    assert tfds.builder_from_directory(directory).info.splits["train"].num_examples == 10


def test_parts_of_a_split(images):
    whole, part = Prepared(images, "train"), Prepared(images, "train[3:9]")
    assert [part.record(i) for i in range(len(part))] == [whole.record(i) for i in range(3, 9)]
    assert part.name(0) == whole.name(3)
    assert part.fingerprint() != whole.fingerprint()
    with pytest.raises(UserError, match="no split 'test': it has train"):
        Prepared(images, "test")
    with pytest.raises(UserError, match="there are no records in"):
        Prepared(images, "train[:0]")


def test_threads_and_pickles_read_the_same(images):
    prepared = Prepared(images, "train")
    expected = [prepared.record(i) for i in range(10)] * 50
    copy = pickle.loads(pickle.dumps(prepared))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(copy.record, [*range(10)] * 50)) == expected
    assert copy.fingerprint() == prepared.fingerprint()


def test_what_tfds_prepared_is_read_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.gcs_utils, "_is_gcs_disabled", True)
    ByTfds(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    (tmp_path / "by_tfds" / "1.9.0").mkdir()  # an older one
    directory = find_directory("by_tfds", tmp_path)
    assert directory == tmp_path / "by_tfds" / "1.10.0"
    assert find_directory("by_tfds:1.10.0", tmp_path) == find_directory(str(directory), tmp_path)
    prepared = Prepared(directory, "train")
    assert prepared.spec == IMAGES
    images = [prepared.record(i)["image"] for i in range(10)]
    assert sorted(images) == sorted(png(pixels(i)) for i in range(10))
    assert prepared.fingerprint() == Prepared(directory, "train").fingerprint()
    with pytest.raises(UserError, match=r"only what launch\.prepare wrote has hashes"):
        verify(directory)
    with pytest.raises(UserError, match=r"mnist: no prepared data set at .*--file_format"):
        find_directory("mnist", tmp_path)


def test_a_foreign_shard_that_is_missing(images):
    (images / MANIFEST).unlink()
    (images / SECOND).unlink()
    with pytest.raises(UserError, match=f"{SECOND}: this shard is missing"):
        Prepared(images, "train")


def test_tfrecord_has_no_random_access(images):
    info = images / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"prepared as tfrecord.*--file_format=array_record"):
        Prepared(images, "train")


def test_features_that_are_not_ours(images):
    features = images / "features.json"
    ours = features.read_text()
    features.write_text(ours.replace('"image": {', '"picture": {', 1))
    with pytest.raises(UserError, match=r"its features are .*picture"):
        Prepared(images, "train")
    video = json.loads(ours)
    video["featuresDict"]["features"]["image"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"dtype": "uint8", "shape": {"dimensions": ["3", "4", "5", "3"]}},
    }
    features.write_text(json.dumps(video))
    with pytest.raises(UserError, match="TFDS cannot open it without TensorFlow"):
        Prepared(images, "train")
    features.write_text(ours[:100])
    with pytest.raises(UserError, match=r"features\.json is damaged"):
        Prepared(images, "train")


def test_a_directory_that_is_unfinished_or_empty(tmp_path):
    with pytest.raises(BadRecord):
        write(tmp_path / "x", Images(bad=(9,)), IMAGES)
    for opens in (lambda path: Prepared(path, "train"), verify):
        with pytest.raises(UserError, match="its preparation was stopped"):
            opens(find_directory(str(tmp_path / "x")))
    with pytest.raises(UserError, match=r"no dataset_info\.json"):
        Prepared(tmp_path, "train")


def test_a_shard_that_is_missing_or_cut_off(images):
    content = (images / SECOND).read_bytes()
    (images / SECOND).write_bytes(content[:-1])
    for opens in (lambda path: Prepared(path, "train"), verify):
        with pytest.raises(UserError, match=f"{SECOND}: 131071 bytes, not 131072"):
            opens(images)
    (images / SECOND).unlink()
    for opens in (lambda path: Prepared(path, "train"), verify):
        with pytest.raises(UserError, match=f"{SECOND}: this shard is missing"):
            opens(images)


def test_verify_names_every_damaged_file(images):
    verify(images)
    flip(images / SECOND, 40_000)  # padding, which no reading touches
    flip(images / "label.labels.txt", 0, bit=0)
    with pytest.raises(UserError, match=f"damaged: {SECOND}, label.labels.txt: copy"):
        verify(images)
    (images / "features.json").unlink()
    with pytest.raises(UserError, match=r"missing: features\.json"):
        verify(images)


def test_no_flipped_bit_changes_what_is_read(images):
    """In the records, their headers, or the index at the end of the file."""
    sound = [Prepared(images, "train").record(i) for i in range(4, 8)]
    content = (images / SECOND).read_bytes()
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    refused, rng = set(), np.random.default_rng(0)
    for position in rng.choice(used, 150, replace=False):
        (images / SECOND).write_bytes(content)
        flip(images / SECOND, position, bit=rng.integers(8))
        prepared = Prepared(images, "train")
        for index, expected in enumerate(sound, start=4):
            try:
                assert prepared.record(index) == expected
            except UserError as error:
                assert SECOND in str(error) and "damaged" in str(error)
                refused.add(type(error))
    assert refused == {BadRecord, UserError}  # of one record, and of the index


def test_a_damaged_record_spoils_no_other(images):
    flip(images / SECOND, (images / SECOND).read_bytes().index(png(pixels(5))))
    prepared = Prepared(images, "train")
    with pytest.raises(BadRecord, match=f"{SECOND}, record 1: damaged .*hash mismatch"):
        prepared.record(5)
    assert [prepared.record(i) for i in (4, 6, 7)] == [Images()[i] for i in (4, 6, 7)]


def with_label(images: Path, feature: dict) -> Path:
    """The set as if its builder had declared another feature for the label."""
    path = images / "features.json"
    declared = json.loads(path.read_text())
    declared["featuresDict"]["features"]["label"] = feature
    path.write_text(json.dumps(declared))
    (images / MANIFEST).unlink()
    return images


CORE = "tensorflow_datasets.core.features"
SCALAR = {"pythonClassName": f"{CORE}.scalar.Scalar"}
INT64 = {**SCALAR, "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"}}
LABELS = {
    "int64": INT64,
    "uint8": {**SCALAR, "tensor": {"shape": {}, "dtype": "uint8", "encoding": "none"}},
    "of shape (1,)": {
        "pythonClassName": f"{CORE}.tensor_feature.Tensor",
        "tensor": {"shape": {"dimensions": ["1"]}, "dtype": "int64", "encoding": "none"},
    },
    "without classes": {
        "pythonClassName": f"{CORE}.class_label_feature.ClassLabel",
        "classLabel": {},
    },
}


@pytest.mark.parametrize("kind", LABELS)
def test_plain_integers_are_labels(images, kind):
    prepared = Prepared(with_label(images, LABELS[kind]), "train")
    assert prepared.class_names == ("0", "1", "2")
    assert [prepared.record(index)["label"] for index in range(10)] == [0, 1, 2] * 3 + [0]
    assert Prepared(images, "train[:2]").class_names == ("0", "1")


@pytest.mark.parametrize(
    "feature",
    [
        {"pythonClassName": f"{CORE}.text_feature.Text", "text": {}},
        {**SCALAR, "tensor": {"shape": {}, "dtype": "float32", "encoding": "none"}},
        {
            "pythonClassName": f"{CORE}.tensor_feature.Tensor",
            "tensor": {"shape": {}, "dtype": "int64", "encoding": "zlib"},
        },
        {
            "pythonClassName": f"{CORE}.tensor_feature.Tensor",
            "tensor": {"shape": {"dimensions": ["3"]}, "dtype": "int64", "encoding": "none"},
        },
    ],
    ids=["text", "float", "bytes", "vector"],
)
def test_other_labels_are_none(images, feature):
    prepared = Prepared(with_label(images, feature), "train")
    assert prepared.class_names is None
    assert "label" not in prepared.record(1)


def test_plain_integers_are_counted_past_a_damaged_record(images):
    flip(images / SECOND, (images / SECOND).read_bytes().index(png(pixels(5))))
    prepared = Prepared(with_label(images, INT64), "train")
    assert prepared.class_names == ("0", "1", "2")
    with pytest.raises(BadRecord, match="record 1: damaged"):
        prepared.record(5)


class Numbered(tfds.core.GeneratorBasedBuilder):
    """Images whose labels are plain integers, prepared by TFDS."""

    VERSION = tfds.core.Version("1.0.0")
    labels = (4, 0, 2)

    def _info(self):
        features = {"image": tfds.features.Image(shape=(4, 5, 3)), "label": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, label in enumerate(self.labels):
            yield index, {"image": io.BytesIO(png(pixels(index))), "label": label}


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """A function: labels -> the directory of a set that TFDS prepared with them."""
    monkeypatch.setattr(tfds.core.utils.gcs_utils, "_is_gcs_disabled", True)

    def prepare(*labels: int) -> Path:
        monkeypatch.setattr(Numbered, "labels", labels)
        Numbered(data_dir=tmp_path, file_format="array_record").download_and_prepare()
        return find_directory("numbered", tmp_path)

    return prepare


def test_a_model_of_a_set_with_plain_labels(numbered):
    config = DataConfig("tfds", path=str(numbered(4, 0, 2)))
    source = open_source(config, (4, 5, 3), 5)
    assert sorted(source.read(index)["labels"] for index in range(3)) == [0, 2, 4]
    with pytest.raises(UserError, match=r"has 5 classes, and config.model.num_classes is 4: set"):
        open_source(config, (4, 5, 3), 4)


@pytest.mark.parametrize("label", [-1, 2**31, 2**62])
def test_plain_integers_that_are_no_labels(numbered, label):
    config = DataConfig("tfds", path=str(numbered(0, label)))
    with pytest.raises(UserError, match=f"numbered/1.0.0: label {label} of example . is outside"):
        open_source(config, (4, 5, 3), 2)
    assert "labels" not in open_source(config, (4, 5, 3), 0).read(0)


def test_records_that_are_not_what_the_features_say(tmp_path):
    """A field may be missing, or of another size."""
    spec = Spec("latent", (2, 3, 8), ("x", "y"))
    directory = write(tmp_path / "set", Latents(), spec)
    (directory / MANIFEST).unlink()
    for other in (IMAGES, Spec("latent", (2, 3, 9))):
        (directory / "label.labels.txt").unlink(missing_ok=True)
        other.features().save_config(directory)
        with pytest.raises(BadRecord, match=r"record 0: cannot be decoded \((Index|Value)Error"):
            Prepared(directory, "train").record(0)
