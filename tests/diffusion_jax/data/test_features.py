"""The metadata of a prepared data set are read as data: nothing that they name is run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_records import Images

from diffusion_jax.data.features import ACCEPTED, check_classes
from diffusion_jax.data.manifest import MANIFEST, verify
from diffusion_jax.data.prepared import Prepared
from diffusion_jax.data.shards import write_dataset
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError

ROOT = Path(__file__).parents[3]
SPEC = Spec("image", (4, 5, 3), ("ant", "bee", "cat"))
EVIL = "data.x.evil.X"
CORE = "tensorflow_datasets.core.features."
FOREIGN = {"pythonClassName": EVIL, "jsonFeature": {"json": "{}"}}
SCALAR = {
    "pythonClassName": f"{CORE}scalar.Scalar",
    "tensor": {"dtype": "int64", "shape": {}},
}
OLD = {"type": EVIL, "content": {}}


@pytest.fixture
def directory(tmp_path, monkeypatch) -> Path:
    """A prepared data set at data/x of the working directory, beside code that must not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "data" / "x"
    write_dataset(path, SPEC, {"train": Images()}, name="toy", source={}, workers=1)
    (path / "evil.py").write_text("import pathlib\npathlib.Path('RUN').touch()\nclass X: pass\n")
    (path / MANIFEST).unlink()
    yield path
    assert not (tmp_path / "RUN").exists()
    assert not [name for name in sys.modules if name.split(".")[0] == "data"]


def nested(feature: dict, depth: int = 1) -> dict:
    """The feature in sequences, and these in a dictionary."""
    for _ in range(depth):
        feature = {"pythonClassName": f"{CORE}sequence_feature.Sequence", "sequence": {
            "feature": feature, "length": "-1"}}  # fmt: skip
    return {"pythonClassName": f"{CORE}features_dict.FeaturesDict", "featuresDict": {
        "features": {"x": feature}}}  # fmt: skip


def in_json(feature: dict) -> dict:
    """The feature in the JSON of a string, as TFDS wrote classes that have no message."""
    return {
        "pythonClassName": f"{CORE}features_dict.FeaturesDict",
        "jsonFeature": {"json": json.dumps({"image": feature})},
    }


def in_message(feature: dict) -> dict:
    """The feature in a message in a string, as TFDS 4.4 wrote it."""
    return {
        "type": f"{CORE}features_dict.FeaturesDict",
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps({"features": {"image": feature}}),
    }


def with_added(features: dict, feature: dict) -> dict:
    """Sound features, and one more."""
    features["featuresDict"]["features"]["more"] = feature
    return features


@pytest.mark.parametrize(
    "hostile",
    [
        lambda ours: FOREIGN,
        lambda ours: OLD,
        lambda ours: with_added(ours, FOREIGN),
        lambda ours: with_added(ours, nested(FOREIGN, 20)),
        lambda ours: with_added(ours, {"python_class_name": EVIL, "tensor": {}}),
        lambda ours: in_json(FOREIGN),
        lambda ours: in_json(OLD),
        lambda ours: in_json(in_json(OLD)),
        lambda ours: in_message(FOREIGN),
        lambda ours: in_message(nested(FOREIGN)),
        lambda ours: {
            "type": f"{CORE}sequence_feature.Sequence",
            "content": {"feature": OLD, "length": None},
        },
        lambda ours: ours | {"pythonClassName": EVIL},
    ],
)
def test_no_class_of_others_is_imported(directory, hostile):
    features = directory / "features.json"
    features.write_text(json.dumps(hostile(json.loads(features.read_text()))))
    for opens in (lambda path: Prepared(path, "train"), check_classes):
        with pytest.raises(UserError, match=rf"names the class {EVIL}, and opening it would run"):
            opens(directory)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "evil",
        "",
        "data.x.evil.X ",
        "tensorflow_datasets.core.features.image_feature.Image.X",
        "tensorflow_datasets.core.features.Image",
        "tensorflow_datasets.datasets.mnist.mnist_dataset_builder.Builder",
        "TENSORFLOW_DATASETS.core.features.image_feature.Image",
    ],
)
def test_only_exact_names_are_accepted(directory, name):
    features = directory / "features.json"
    features.write_text(json.dumps(with_added(json.loads(features.read_text()), {
        "pythonClassName": name, "tensor": {"dtype": "int64", "shape": {}}})))  # fmt: skip
    with pytest.raises(UserError, match="only the features of TFDS itself are read"):
        Prepared(directory, "train")


def test_the_features_of_tfds_are_read_as_they_were_ever_written(directory):
    """Also in the JSON of TFDS before 4.5."""
    features, sound = directory / "features.json", Prepared(directory, "train")
    assert sound.spec == SPEC
    old = {
        "type": f"{CORE}features_dict.FeaturesDict",
        "content": {
            "image": {
                "type": f"{CORE}image_feature.Image",
                "content": {"shape": [4, 5, 3], "dtype": "uint8", "encoding_format": "png"},
            },
            "label": {
                "type": f"{CORE}class_label_feature.ClassLabel",
                "content": {"num_classes": 3},
            },
            "type": {
                "type": f"{CORE}text_feature.Text",
                "content": {},
            },
        },
    }
    features.write_text(json.dumps(old))
    assert Prepared(directory, "train").spec == SPEC
    assert Prepared(directory, "train").record(3) == sound.record(3)


def test_the_accepted_classes_are_those_of_tfds():
    import tensorflow_datasets as tfds

    assert set(tfds.features.FeatureConnector._registered_features) >= ACCEPTED


def test_nothing_else_in_the_metadata_is_imported(directory):
    info = directory / "dataset_info.json"
    content = json.loads(info.read_text())
    content |= {"moduleName": "data.x.evil", "configName": "data.x.evil", "location": {
        "urls": ["data.x.evil"]}}  # fmt: skip
    info.write_text(json.dumps(content))
    assert len(Prepared(directory, "train")) == 10


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("features.json", "[" * 100_000, "features.json is damaged"),
        ("features.json", '{"featuresDict": ' * 900 + "{}" + "}" * 900, "is damaged"),
        ("features.json", "3", "is damaged"),
        ("features.json", "{}", "is damaged"),
        ("features.json", json.dumps([FOREIGN]), "is damaged"),
        ("features.json", '{"type": 3, "content": 4}', "is damaged"),
        ("features.json", '{"pythonClassName": ["x"]}', "is damaged"),
        ("features.json", b"\xff\xfe{}", "is damaged"),
        ("features.json", json.dumps(SCALAR), "must be a FeaturesDict"),
        ("dataset_info.json", "{", "dataset_info.json is damaged"),
        ("dataset_info.json", "3", "dataset_info.json is damaged"),
        ("dataset_info.json", b"\xff", "dataset_info.json is damaged"),
        ("dataset_info.json", "[" * 100_000, "dataset_info.json is damaged"),
        ("dataset_info.json", "{}", "prepared as tfrecord"),
        ("label.labels.txt", "ant\nbee\n", "label.labels.txt and features.json differ"),
        ("label.labels.txt", "ant\nbee\nbee\n", "label.labels.txt and features.json differ"),
        ("label.labels.txt", b"ant\nbee\n\xff\n", "label.labels.txt is damaged"),
    ],
)
def test_damaged_metadata_are_named(directory, file, content, message):
    path = directory / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        Prepared(directory, "train")


def test_classes_without_names_are_numbered_but_not_without_end(directory):
    (directory / "label.labels.txt").unlink()
    assert Prepared(directory, "train").class_names == ("0", "1", "2")
    features = directory / "features.json"
    features.write_text(features.read_text().replace('"3"', '"999999999999"'))
    with pytest.raises(UserError, match=r"features\.json has 999999999999 classes"):
        Prepared(directory, "train")


@pytest.mark.parametrize("file", ["features.json", "label.labels.txt"])
@pytest.mark.parametrize("target", ["/dev/zero", "fifo"])
def test_metadata_that_never_end_are_not_read(directory, file, target):
    os.mkfifo(directory / "fifo")
    (directory / file).unlink()
    (directory / file).symlink_to(target)
    with pytest.raises(UserError, match=rf"{file} is a (device|FIFO), not a file"):
        Prepared(directory, "train")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(filepathTemplate="../../{DATASET}"), "names the file '../../toy', which is not in"),
        (dict(filepathTemplate="/etc/passwd"), "names the file '/etc/passwd'"),
        (dict(filepathTemplate="{SPLIT:>99999999999}"), "the names of its files are"),
        (dict(filepathTemplate="{SPLIT.__class__}"), "the names of its files are"),
        (dict(filepathTemplate="{SPLIT!r}"), "the names of its files are"),
        (dict(filepathTemplate="{0}"), "the names of its files are"),
        (dict(filepathTemplate="a\0b"), "names the file"),
        (dict(filepathTemplate="a" * 300), "names the file"),
        (dict(name="../train"), r"names the file '\.\./train-"),
        (dict(shardLengths=["-5", "5"]), "is damaged"),
        (dict(shardLengths=["99999999999999999999"]), "is damaged"),
    ],
)
def test_names_of_shards_stay_in_the_directory(directory, changes, message):
    info = directory / "dataset_info.json"
    content = json.loads(info.read_text())
    if name := changes.get("name"):
        content["name"] = name
    else:
        content["splits"][0] |= changes
    info.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Prepared(directory, "train")


@pytest.mark.parametrize("name", ["../../../PWN", "/tmp/PWN", "..", "a\0b", 3])
def test_a_manifest_that_names_what_lies_elsewhere(tmp_path, name):
    """Whoever reads, verifies or repairs the directory stops before a file is touched."""

    def write() -> dict:
        return write_dataset(
            tmp_path / "a" / "b" / "set",
            SPEC,
            {"train": Images()},
            name="toy",
            source={},
            workers=1,
        )

    manifest, path = write(), tmp_path / "a" / "b" / "set"
    shard = manifest["splits"]["train"]["shards"][0]
    (path / shard["file"]).unlink()  # so that the command mends it
    before = sorted(tmp_path.rglob("*"))
    for change in (shard, manifest["metadata"]):
        changed = json.loads(json.dumps(manifest))
        if change is shard:
            changed["splits"]["train"]["shards"][0]["file"] = name
        else:
            changed["metadata"][str(name)] = "0"
        (path / MANIFEST).write_text(json.dumps(changed))
        if name == 3 and change is not shard:
            continue  # "3" is a name like any other
        for reads in (write, lambda: verify(path), lambda: Prepared(path, "train")):
            with pytest.raises(UserError, match=r"manifest\.json (names the file|is damaged)"):
                reads()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("link", ["unfinished", "unfinished/lock", "features.json"])
def test_a_stopped_preparation_is_not_continued_through_links(tmp_path, link):
    """Somebody else's directory could have us overwrite any file."""
    path, outside = tmp_path / "set", tmp_path / "outside"
    (path / link).parent.mkdir(parents=True)
    (path / "unfinished").mkdir(exist_ok=True) if link != "unfinished" else outside.mkdir()
    if link != "unfinished":
        outside.write_text("precious")
    (path / link).symlink_to(outside)
    if link == "features.json":
        (path / "unfinished" / "request.json").write_text(json.dumps(_request()))
    with pytest.raises(UserError, match=r"is a link to .*, outside|holds files that are not ours"):
        write_dataset(path, SPEC, {"train": Images()}, name="toy", source={}, workers=1)
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "precious"


def _request() -> dict:
    about = {"kind": "image", "shape": [4, 5, 3], "class_names": ["ant", "bee", "cat"]}
    return {"name": "toy", **about, "records_per_shard": 2048, "records.train": 10}


def test_tfds_opens_nothing_of_others_by_name(directory):
    """It reads what lies in its data_dir before it looks for code of its own."""
    version = directory / "1.0.0"
    version.mkdir()
    (version / "features.json").write_text(json.dumps(FOREIGN))
    (version / "dataset_info.json").write_text((directory / "dataset_info.json").read_text())
    command = [sys.executable, "-m", "launch.prepare", "--source=tfds"]
    result = subprocess.run(
        [*command, "--path=x:1.0.0", "--out=data"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:."},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert f"names the class {EVIL}" in result.stderr
