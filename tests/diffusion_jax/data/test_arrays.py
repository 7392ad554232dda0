"""Arrays in memory: what does not fit the model is refused."""

import numpy as np
import pytest

from diffusion_jax.data import arrays
from diffusion_jax.data.arrays import npz
from diffusion_jax.errors import UserError


def test_digits_are_split_without_overlap():
    train, held_out = arrays.digits("train"), arrays.digits("held_out")
    assert (len(train), len(held_out)) == (1500, 297)
    assert train.images.dtype == np.uint8
    assert train.images.max() == 255
    assert set(train.labels) == set(range(10))


GOOD = dict(images=np.zeros((3, 4, 4, 1), np.uint8), labels=np.array([0, 1, 2]))


def save(path, **changes):
    arrays = {name: value for name, value in (GOOD | changes).items() if value is not None}
    np.savez(path, **arrays)
    return str(path)


def test_npz_by_either_name_and_without_labels(tmp_path):
    source = npz(save(tmp_path / "a.npz"), (4, 4, 1), 3)
    assert [int(source.read(i)["labels"]) for i in (2, 0)] == [2, 0]
    path = save(tmp_path / "b.npz", images=None, arr_0=GOOD["images"], labels=None)
    assert "labels" not in npz(path, (4, 4, 1), 0).read(0)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(labels=np.array([0, 1, 3])), "label 3 of image 2 is outside the 3 classes 0 to 2"),
        (dict(labels=np.array([0, -1, 2])), "label -1 of image 1"),
        (dict(labels=np.array([0, 1])), r"labels are int64 of shape \(2,\): give 3 integers"),
        (dict(labels=np.array([0.0, 1, 2])), "labels are float64"),
        (dict(labels=None), "there are no labels: set config.model.num_classes=0"),
        (dict(images=np.zeros((3, 4, 4, 1))), "images are float64: give uint8"),
        (dict(images=np.zeros((3, 5, 4, 1), np.uint8)), r"shape \(5, 4, 1\), and"),
        (dict(images=np.zeros((3, 4, 4), np.uint8)), r"shape \(4, 4\), and"),
        (dict(images=np.zeros((0, 4, 4, 1), np.uint8)), "there are no images in it"),
        (dict(images=None), r"no array 'images' among \['labels'\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, changes, message):
    path = save(tmp_path / "data.npz", **changes)
    with pytest.raises(UserError, match=message) as error:
        npz(path, (4, 4, 1), 3)
    assert "data.npz" in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    whole = (tmp_path / "whole.npz", tmp_path / "cut.npz", tmp_path / "empty.npz")
    save(whole[0])
    data = whole[0].read_bytes()
    whole[1].write_bytes(data[: len(data) // 2])
    whole[2].write_bytes(b"")
    for path in whole[1:]:
        with pytest.raises(UserError, match=f"{path.name} is cut short or no npz file"):
            npz(str(path), (4, 4, 1), 3)
    with pytest.raises(UserError, match=r"none.npz does not exist"):
        npz(str(tmp_path / "none.npz"), (4, 4, 1), 3)
