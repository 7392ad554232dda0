"""The stream is a pure function of (seed, step), whoever reads it, and loses nothing."""

import itertools

import numpy as np
import pytest

from diffusion_jax.data.arrays import Arrays
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.sources import DataConfig, FittedSource
from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError


def numbered(count: int) -> Arrays:
    """Images (1, 2, 1) whose left pixel is their index."""
    images = np.zeros((count, 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return Arrays(images, np.arange(count, dtype=np.int32))


def labels(batches) -> list[int]:
    return [int(label) for batch in batches for label in batch["labels"]]


def first(stream: Stream, count: int, step: int = 0):
    return list(itertools.islice(stream.batches(step), count))


def test_every_epoch_holds_every_example_once_in_an_order_of_its_own():
    stream = Stream(numbered(10), batch_size=4, seed=0)  # no batch divides the set
    order = np.array(labels(first(stream, 15))).reshape(6, 10)
    assert (np.sort(order, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in order}) == 6


def test_batches_need_only_seed_and_step():
    expected = labels(first(Stream(numbered(10), batch_size=4, seed=3), 12))
    assert labels([Stream(numbered(10), batch_size=4, seed=3)[7]]) == expected[28:32]
    assert labels(first(Stream(numbered(10), batch_size=6, seed=3), 8)) == expected
    assert labels(first(Stream(numbered(10), batch_size=4, seed=4), 12)) != expected


@pytest.mark.parametrize("hosts", [((0,), (1,)), ((0, 1), (2, 3)), ((0, 2), (1, 3))])
def test_hosts_share_the_batches_of_one(hosts):
    """Example for example, flips included, over two epochs and more."""
    count = sum(map(len, hosts))
    whole = first(Stream(numbered(10), 8, seed=1, flip=True), 5)
    for owned in hosts:
        read = first(Stream(numbered(10), 8, seed=1, flip=True, parts=count, owned=owned), 5)
        for ours, theirs in zip(read, whole, strict=True):
            for name, expected in theirs.items():
                wanted = expected.reshape(count, 8 // count, *expected.shape[1:])[list(owned)]
                np.testing.assert_array_equal(ours[name], wanted.reshape(ours[name].shape))


@pytest.mark.parametrize("stop", [0, 1, 5, 13])
def test_a_reader_that_stops_anywhere_goes_on_where_it_was(stop):
    expected = first(Stream(numbered(11), 3, seed=0, flip=True), 20)
    read = first(Stream(numbered(11), 3, seed=0, flip=True), stop)
    read += first(Stream(numbered(11), 3, seed=0, flip=True), 20 - stop, step=stop)
    for ours, theirs in zip(read, expected, strict=True):
        np.testing.assert_array_equal(ours["images"], theirs["images"])
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])


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


class Broken(Arrays):
    """Some records cannot be read."""

    bad = (3, 4)

    def read(self, index, **how):
        if index in self.bad:
            raise BadRecord(f"file{index}.png: truncated")
        return super().read(index, **how)


def broken(count: int) -> Broken:
    whole = numbered(count)
    return Broken(whole.images, whole.labels)


def test_a_bad_record_stops_the_run_and_is_named():
    with pytest.raises(BadRecord, match=r"file[34].png: truncated"):
        first(Stream(broken(10), 5, seed=0), 2)


def test_bad_records_may_be_skipped_and_are_listed(capsys):
    source = FittedSource(broken(10), "images", 10, skip=True)
    read = labels(first(Stream(source, 5, seed=0), 2))
    assert sorted(read) == [0, 1, 2, 5, 5, 5, 6, 7, 8, 9]  # the next one takes their place
    assert source.skipped == {3: "file3.png: truncated", 4: "file4.png: truncated"}
    assert "skipped: file3.png: truncated" in capsys.readouterr().err


def test_a_set_without_a_good_record_is_refused():
    class Nothing(Broken):
        bad = range(10)

    source = FittedSource(Nothing(numbered(10).images, None), "images", 0, skip=True)
    with pytest.raises(UserError, match=r"none of the 10 records from \d on can be read"):
        Stream(source, 5, seed=0)[0]


def test_what_to_do_with_bad_records_has_two_names():
    with pytest.raises(UserError, match=r"on_bad_record is 'skp': did you mean skip"):
        DataConfig("folder", "photos", on_bad_record="skp")
