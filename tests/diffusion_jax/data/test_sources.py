"""Whatever the data are, a model of other images or fewer classes is refused by the same checks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_records import Images, Latents

from diffusion_jax.data.manifest import MANIFEST
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.shards import write_dataset
from diffusion_jax.data.sources import SOURCES, DataConfig, FittedSource, open_source
from diffusion_jax.data.spec import Spec
from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError


def write_shards(out: Path, spec: Spec, records: object) -> DataConfig:
    write_dataset(out, spec, {"train": records}, name="toy", source={}, workers=1)
    return DataConfig("tfds", str(out))


def digits(folder: Path) -> DataConfig:
    return DataConfig("digits")


def npz(folder: Path) -> DataConfig:
    images = np.zeros((3, 4, 5, 3), np.uint8)
    np.savez(folder / "set.npz", images=images, labels=np.array([0, 2, 1], np.uint8))
    return DataConfig("npz", str(folder / "set.npz"))


def folder(folder: Path) -> DataConfig:
    for name in "abc":
        (folder / "set" / name).mkdir(parents=True)
        Image.new("RGB", (5, 4)).save(folder / "set" / name / "0.png")
    return DataConfig("folder", str(folder / "set"))


def clips(folder: Path) -> DataConfig:
    for name in "abc":
        (folder / "set" / name).mkdir(parents=True)
        np.save(folder / "set" / name / "0.npy", np.zeros((3, 4, 5, 3), np.uint8))
    return DataConfig("clips", str(folder / "set"))


def tfds(folder: Path) -> DataConfig:
    return write_shards(folder / "set", Spec("image", (4, 5, 3), ("a", "b", "c")), Images())


def latents(folder: Path) -> DataConfig:
    return write_shards(folder / "set", Spec("latent", (2, 3, 8), ("a", "b")), Latents())


CASES = {  # by source: what makes it, the shape of an example, and its number of classes
    "digits": (digits, (8, 8, 1), 10),
    "npz": (npz, (4, 5, 3), 3),
    "folder": (folder, (4, 5, 3), 3),
    "clips": (clips, (3, 4, 5, 3), 3),
    "tfds": (tfds, (4, 5, 3), 3),
    "tfds, latents": (latents, (2, 3, 8), 2),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """(the name, the config, the shape, the classes, whether they are latents)."""
    make, shape, classes = CASES[request.param]
    return request.param, make(tmp_path), shape, classes, make is latents


def test_every_source_is_a_case():
    assert {name.split(",")[0] for name in CASES} == set(SOURCES)


def test_fewer_classes_are_refused_and_more_are_not(case):
    _, config, shape, classes, latents = case
    message = (
        f"has {classes} classes, and config.model.num_classes is {classes - 1}: set it to {classes}"
    )
    with pytest.raises(UserError, match=f"^{config.path or config.name}: {message}"):
        open_source(config, shape, classes - 1, latents=latents)
    for enough in (classes, classes + 1):
        example = open_source(config, shape, enough, latents=latents).read(0)
        assert 0 <= example["labels"] < classes
        assert example["labels"].dtype == np.int32


def test_a_model_without_classes_is_given_no_labels(case):
    _, config, shape, _, latents = case
    assert "labels" not in open_source(config, shape, 0, latents=latents).read(0)


def test_another_shape_is_refused_unless_images_are_cropped_to_it(case):
    name, config, shape, classes, latents = case
    other = (*shape[:-3], 16, 16, shape[-1])
    if name in ("folder", "clips", "tfds"):
        example = open_source(config, other, classes).read(0)
        assert example["images"].shape == other
        return
    with pytest.raises(UserError, match=r"examples have shape .* is made for .*16, 16"):
        open_source(config, other, classes, latents=latents)
    if name != "tfds, latents":
        with pytest.raises(UserError, match="examples have shape"):
            open_source(config, (*shape[:-1], 4 - shape[-1]), classes)


def test_another_kind_is_refused(case):
    _, config, shape, classes, latents = case
    other = (2, *shape) if len(shape) == 3 else shape[1:]
    with pytest.raises(UserError, match=r"holds examples of kind \w+, and the model wants"):
        open_source(config, other, classes)
    with pytest.raises(UserError, match=r"holds examples of kind \w+, and the model wants"):
        open_source(config, shape[-3:], classes, latents=not latents)


def test_data_without_labels_are_refused_by_a_model_with_classes(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"there are no labels: set config.model.num_classes=0"):
        open_source(DataConfig("folder", str(tmp_path)), (4, 5, 3), 3)
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((3, 4, 5, 3), np.uint8))
    with pytest.raises(UserError, match=r"set.npz: there are no labels"):
        open_source(DataConfig("npz", str(path)), (4, 5, 3), 3)


def test_a_prepared_label_without_class(tmp_path):
    config = tfds(tmp_path)
    (tmp_path / "set" / MANIFEST).unlink()
    features = tmp_path / "set" / "features.json"
    features.write_text(features.read_text().replace('"numClasses": "3"', '"numClasses": "2"'))
    (tmp_path / "set" / "label.labels.txt").write_text("a\nb\n")
    source = open_source(config, (4, 5, 3), 3)
    assert source.read(1)["labels"] == 1
    with pytest.raises(BadRecord, match=r"set, example 2: its label is 2, and .* are 0 to 1"):
        source.read(2)


class Computed:
    """A source that somebody wrote, which does not always keep to what it declares."""

    kind, shape, num_classes = "image", (4, 4, 1), 3

    def __init__(self, **wrong: object):
        self.wrong = wrong

    def __len__(self) -> int:
        return 2

    def read(self, index: int, *, mirrored: bool = False, at: float = 0.0) -> dict:
        example = {"images": np.zeros((4, 4, 1), np.uint8), "labels": np.int32(2)}
        return example | (self.wrong if index else {})

    def fingerprint(self) -> str:
        return "computed"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(labels=np.int32(3)), "its label is 3, and the classes are 0 to 2"),
        (dict(labels=-1), "its label is -1"),
        (dict(labels=1.5), "its label is 1.5"),
        (dict(labels=None), "its label is None"),
        (dict(labels=np.array([1, 2])), r"its label is \[1 2\]"),
        (dict(images=np.zeros((4, 5, 1), np.uint8)), r"images are uint8 of shape \(4, 5, 1\), not"),
        (dict(images=np.zeros((4, 4, 1))), r"images are float64 of shape \(4, 4, 1\), not uint8"),
    ],
)
def test_every_example_is_checked_as_it_is_read(wrong, message, capsys):
    source = FittedSource(Computed(**wrong), "computed", 3, "image", (4, 4, 1))
    assert source.read(0)["labels"] == 2
    with pytest.raises(BadRecord, match=f"^computed, example 1: {message}"):
        source.read(1)
    skipping = FittedSource(Computed(**wrong), "computed", 3, skip=True)
    assert Stream(skipping, 2, seed=0)[0]["labels"].tolist() == [2, 2]
    assert list(skipping.skipped) == [1]
