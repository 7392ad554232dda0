"""Sources refuse what does not fit; the stream is a pure function of (seed, step)."""

import numpy as np
import pytest

from diffusion_jax.data.sources import Arrays, load_source
from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError


def numbered(count: int) -> Arrays:
    """Images (1, 2, 1) whose left pixel is their index."""
    images = np.zeros((count, 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return Arrays(images, np.arange(count, dtype=np.int32))


def labels(stream: Stream, steps) -> list[int]:
    return [int(label) for step in steps for label in stream[step]["labels"]]


def test_every_epoch_holds_every_example_once_in_an_order_of_its_own():
    stream = Stream(numbered(10), batch_size=4, seed=0)  # no batch divides the set
    order = np.array(labels(stream, range(15))).reshape(6, 10)
    assert (np.sort(order, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in order}) == 6


def test_batches_need_only_seed_and_step():
    first = Stream(numbered(10), batch_size=4, seed=3)
    expected = labels(first, range(12))
    later = Stream(numbered(10), batch_size=4, seed=3)
    assert labels(later, [7]) == expected[28:32]
    assert labels(Stream(numbered(10), batch_size=6, seed=3), range(8)) == expected
    assert labels(Stream(numbered(10), batch_size=4, seed=4), range(12)) != expected


def test_a_batch_may_be_larger_than_the_set():
    batch = Stream(numbered(3), batch_size=8, seed=0)[5]
    assert batch["images"].shape == (8, 1, 2, 1)
    assert set(batch["labels"]) == {0, 1, 2}


def test_flips_mirror_half_and_are_drawn_anew():
    stream = Stream(numbered(200), batch_size=200, seed=0, flip=True)
    mirrored = []
    for epoch in range(2):
        batch = stream[epoch]
        left, right = batch["images"][:, 0, 0, 0], batch["images"][:, 0, 1, 0]
        assert (np.maximum(left, right) == batch["labels"]).all()
        by_label = np.zeros(200, bool)
        by_label[batch["labels"]] = right > 0
        mirrored.append(by_label)
    assert 70 < mirrored[0].sum() < 130
    assert (mirrored[0] != mirrored[1]).sum() > 50


def test_digits_are_split_without_overlap():
    train = load_source("digits", "", (8, 8, 1), 10)
    held_out = load_source("digits", "", (8, 8, 1), 10, split="held_out")
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
    source = load_source("npz", save(tmp_path / "a.npz"), (4, 4, 1), 3)
    assert source[np.array([2, 0])]["labels"].tolist() == [2, 0]
    path = save(tmp_path / "b.npz", images=None, arr_0=GOOD["images"], labels=None)
    assert "labels" not in load_source("npz", path, (4, 4, 1), 0)[np.array([0])]


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
        load_source("npz", path, (4, 4, 1), 3)
    assert "data.npz" in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    whole = (tmp_path / "whole.npz", tmp_path / "cut.npz", tmp_path / "empty.npz")
    save(whole[0])
    data = whole[0].read_bytes()
    whole[1].write_bytes(data[: len(data) // 2])
    whole[2].write_bytes(b"")
    for path in whole[1:]:
        with pytest.raises(UserError, match=f"{path.name}: not a readable .npz"):
            load_source("npz", str(path), (4, 4, 1), 3)
    with pytest.raises(UserError, match="there is no such file"):
        load_source("npz", str(tmp_path / "none.npz"), (4, 4, 1), 3)
    with pytest.raises(UserError, match=r"data.path is empty"):
        load_source("npz", "", (4, 4, 1), 3)
    with pytest.raises(UserError, match=r"data.name is 'npy': did you mean npz"):
        load_source("npy", "", (4, 4, 1), 3)
