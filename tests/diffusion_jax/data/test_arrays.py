"""Arrays in memory keep their values, or are refused."""

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
    source = npz(save(tmp_path / "a.npz"))
    assert [int(source.read(i)["labels"]) for i in (2, 0)] == [2, 0]
    path = save(tmp_path / "b.npz", images=None, arr_0=GOOD["images"], labels=None)
    assert "labels" not in npz(path).read(0)


@pytest.mark.parametrize(
    "labels, expected",
    [
        (np.array([3, 255, 0], np.uint8), [3, 255, 0]),
        (np.array([3, 7, 0], np.uint64), [3, 7, 0]),
        (np.array([3, 7, 0], ">i8"), [3, 7, 0]),
        (np.array([3, 127, 0], np.int8), [3, 127, 0]),
        (np.array([[3], [7], [0]]), [3, 7, 0]),  # as Keras stores them
        (np.array([True, False, True]), [1, 0, 1]),
        (np.array([2**20 - 1, 0, 1]), [2**20 - 1, 0, 1]),
    ],
    ids=str,
)
def test_labels_keep_their_values(tmp_path, labels, expected):
    source = npz(save(tmp_path / "a.npz", labels=labels))
    assert (source.labels.tolist(), source.labels.dtype) == (expected, np.int32)
    assert source.num_classes == max(expected) + 1


def test_labels_that_are_not_wanted_are_not_looked_at(tmp_path):
    assert npz(save(tmp_path / "a.npz", labels=np.array([0.5])), labelled=False).labels is None


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(labels=np.array([0, -1, 2])), "label -1 of example 1 is outside 0 to 1048575"),
        (dict(labels=np.array([0, 2**32, 2])), "label 4294967296 of example 1"),
        (dict(labels=np.array([0, 2**31, 2])), "label 2147483648 of example 1"),
        (dict(labels=np.array([0, 2**63 + 5, 2], np.uint64)), "label 9223372036854775813 of"),
        (dict(labels=np.array([0, 2**20, 2])), "label 1048576 of example 1"),
        (dict(labels=np.array([0, 1])), r"labels are int64 of shape \(2,\): give 3 integers"),
        (dict(labels=np.array([0.0, 1, 2])), "labels are float64"),
        (dict(labels=np.eye(3, dtype=int)), r"labels are int64 of shape \(3, 3\)"),
        (dict(labels=np.array(["a", "b", "c"])), "labels are <U1"),
        (
            dict(labels=np.array([0, 1, 2], object)),
            "holds .labels., which is pickled",
        ),
        (dict(images=np.zeros((3, 4, 4, 1))), "images are float64: give uint8"),
        (dict(images=np.zeros((3, 4, 4), np.uint8)), r"shape \(3, 4, 4\): give \(N, height,"),
        (dict(images=np.zeros((3, 4, 4, 2), np.uint8)), r"\(3, 4, 4, 2\).* with 1 or 3 channels"),
        (dict(images=np.zeros((0, 4, 4, 1), np.uint8)), "there are no images in it"),
        (dict(images=None), r"no array 'images' among \['labels'\]"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, changes, message):
    path = save(tmp_path / "data.npz", **changes)
    with pytest.raises(UserError, match=message) as error:
        npz(path)
    assert "data.npz" in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    whole = (tmp_path / "whole.npz", tmp_path / "cut.npz", tmp_path / "empty.npz")
    save(whole[0])
    data = whole[0].read_bytes()
    whole[1].write_bytes(data[: len(data) // 2])
    whole[2].write_bytes(b"")
    for path in whole[1:]:
        with pytest.raises(UserError, match=f"{path.name} is cut short or no npz file"):
            npz(str(path))
    with pytest.raises(UserError, match=r"none.npz does not exist"):
        npz(str(tmp_path / "none.npz"))
