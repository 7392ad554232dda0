"""A data set is written once, to the same bytes by any way, and refuses what would spoil it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from toy_records import Images, Latents, Videos, moments, pixels

from diffusion_jax.data.manifest import MANIFEST, verify
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.shards import write_dataset
from diffusion_jax.data.spec import Spec
from diffusion_jax.errors import UserError

ROOT = Path(__file__).parents[3]
IMAGES = Spec("image", (None, None, 3), ("ant", "bee", "cat"))


def write(directory: Path, records=None, spec: Spec = IMAGES, **changes) -> dict:
    arguments = {"name": "toy", "source": {"size": 4}, "workers": 1, "records_per_shard": 4}
    splits = {"train": Images() if records is None else records}
    return write_dataset(directory, spec, splits, **(arguments | changes))


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def run(code: str, directory: Path) -> subprocess.CompletedProcess:
    """Runs code that calls `write`; returns when it has ended."""
    paths = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]
    code = (
        f"import sys; sys.path[:0] = {paths}\n"
        "import pathlib, resource; from test_shards import Images, write\n"
        f"directory = pathlib.Path({str(directory)!r})\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def opened(directory: Path, split: str = "train"):
    return tfds.builder_from_directory(directory).as_data_source(split)


def test_tfds_reads_images_with_their_classes(tmp_path):
    splits = {"train": Images(), "test": Images(3)}
    write_dataset(tmp_path, IMAGES, splits, name="toy", source={}, workers=1, records_per_shard=4)
    examples = list(opened(tmp_path))
    assert len(examples) == 10 and len(opened(tmp_path, "test")) == 3
    for index, example in enumerate(examples):
        np.testing.assert_array_equal(example["image"], pixels(index))
        assert example["label"] == index % 3
    assert tfds.builder_from_directory(tmp_path).info.features["label"].names == [
        "ant",
        "bee",
        "cat",
    ]


def test_tfds_reads_videos_and_latents(tmp_path):
    write(tmp_path / "videos", Videos(), Spec("video", (3, 4, 5, 3)))
    (first, second) = opened(tmp_path / "videos")
    assert set(first) == {"video"}
    np.testing.assert_array_equal(second["video"], [pixels(3), pixels(4), pixels(5)])
    write(tmp_path / "latents", Latents(), Spec("latent", (2, 3, 8), ("x", "y")))
    for index, example in enumerate(opened(tmp_path / "latents")):
        np.testing.assert_array_equal(example["moments"], moments(index))
        np.testing.assert_array_equal(example["moments_flipped"], moments(index)[:, ::-1])
        assert example["moments"].dtype == np.float32 and example["label"] == index % 2


def test_the_bytes_do_not_depend_on_workers_or_interruptions(tmp_path):
    write(tmp_path / "one")
    expected = files(tmp_path / "one")
    write(tmp_path / "two", workers=2)
    assert files(tmp_path / "two") == expected
    with pytest.raises(BadRecord, match=r"9\.png"):
        write(tmp_path / "stopped", Images(bad=(9,)))
    assert not (tmp_path / "stopped" / MANIFEST).exists()
    write(tmp_path / "stopped")
    assert files(tmp_path / "stopped") == expected


def test_a_killed_command_continues(tmp_path):
    assert run("write(directory, Images(kills=9), workers=2)", tmp_path / "x").returncode == -9
    assert not (tmp_path / "x" / MANIFEST).exists()
    write(tmp_path / "x")
    write(tmp_path / "whole")
    assert files(tmp_path / "x") == files(tmp_path / "whole")


class Slow(Images):
    """Images of which one cannot be read, and 50,000 take eight minutes."""

    def __getitem__(self, index: int) -> dict:
        if index == 9:
            raise BadRecord("9.png: truncated")
        time.sleep(0.01)
        return super().__getitem__(index)


def test_a_failure_ends_the_other_threads_at_once(tmp_path):
    """A shard that is being written is given up after its record, and leaves nothing behind."""
    begun = time.monotonic()
    with pytest.raises(BadRecord, match=r"9\.png: truncated"):
        write(tmp_path, Slow(100_000), workers=2, records_per_shard=50_000)
    assert time.monotonic() - begun < 60
    assert not list(tmp_path.rglob("*.partial"))


def test_finished_shards_are_kept_unless_they_are_damaged(tmp_path):
    with pytest.raises(BadRecord):
        write(tmp_path / "x", Images(bad=(9,)))
    kept, damaged = sorted((tmp_path / "x").glob("toy-*"))
    time = kept.stat().st_mtime_ns
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    write(tmp_path / "x")
    write(tmp_path / "whole")
    assert kept.stat().st_mtime_ns == time
    assert files(tmp_path / "x") == files(tmp_path / "whole")


def test_a_complete_directory_is_left_alone_and_a_deleted_shard_made_anew(tmp_path):
    manifest = write(tmp_path)
    before = files(tmp_path)
    assert write(tmp_path, Images(bad=tuple(range(10)))) == manifest  # nothing is read
    (tmp_path / manifest["splits"]["train"]["shards"][1]["file"]).unlink()
    assert write(tmp_path, Images(bad=(0, 1, 2, 3, 8, 9))) == manifest
    assert files(tmp_path) == before


def test_bad_records_are_skipped_and_listed(tmp_path):
    with pytest.raises(BadRecord, match=r"[59]\.png: truncated"):
        write(tmp_path, Images(bad=(5, 9)), workers=2)
    manifest = write(tmp_path, Images(bad=(5, 9)), on_bad_record="skip")
    train = manifest["splits"]["train"]
    assert (train["records"], train["skipped"]) == (8, 2)
    assert [shard["records"] for shard in train["shards"]] == [4, 3, 1]
    assert train["shards"][1]["skipped"] == [{"index": 5, "reason": "5.png: truncated"}]
    labels = [example["label"] for example in opened(tmp_path)]
    assert labels == [index % 3 for index in range(10) if index not in (5, 9)]


def test_a_shard_with_gaps_is_not_taken_for_whole(tmp_path):
    """What one command skipped, another that wants every record writes again."""
    run("write(directory, Images(bad=(1,), kills=9), workers=2, on_bad_record='skip')", tmp_path)
    assert write(tmp_path)["splits"]["train"]["records"] == 10


def test_a_shard_may_be_empty_but_not_the_split(tmp_path):
    bad = tuple(range(4, 8))
    manifest = write(tmp_path / "x", Images(bad=bad), on_bad_record="skip")
    assert [shard["records"] for shard in manifest["splits"]["train"]["shards"]] == [4, 0, 2]
    assert [example["label"] for example in opened(tmp_path / "x")] == [0, 1, 2, 0, 2, 0]
    with pytest.raises(UserError, match=r"no record of 'train' can be read: 0\.png: truncated"):
        write(tmp_path / "y", Images(bad=tuple(range(10))), on_bad_record="skip")


def test_a_full_disk_is_named_and_the_command_continues(tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (140_000, 140_000)); "
    result = run(limit + "write(directory, Images(tall=4))", tmp_path / "x")
    assert "UserError" in result.stderr and "File too large" in result.stderr
    assert "with 1 of 3 shards done" in result.stderr and "the rest needs about" in result.stderr
    assert "make room" in result.stderr and "the same command continues" in result.stderr
    assert not list(tmp_path.rglob("*.partial"))
    write(tmp_path / "x", Images(tall=4))
    write(tmp_path / "whole", Images(tall=4))
    assert files(tmp_path / "x") == files(tmp_path / "whole")


def test_a_directory_of_something_else_is_refused(tmp_path):
    write(tmp_path / "x")
    for changes, message in (
        ({"source": {"size": 8}}, r"source\.size = 4, and now it is 8"),
        ({"records_per_shard": 5}, "records_per_shard = 4, and now it is 5"),
        ({"records": Images(9)}, r"records\.train = 10, and now it is 9"),
        ({"spec": Spec("image", (None, None, 3))}, "class_names"),
    ):
        with pytest.raises(UserError, match=message):
            write(tmp_path / "x", **changes)
    with pytest.raises(BadRecord):
        write(tmp_path / "y", Images(bad=(9,)))
    with pytest.raises(UserError, match=r"source\.size"):
        write(tmp_path / "y", source={"size": 8})
    with pytest.raises(UserError, match=r"writing failed .*Not a directory"):
        write(tmp_path / "x" / MANIFEST / "z")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").touch()
    with pytest.raises(UserError, match="files that are not ours"):
        write(tmp_path / "photos")


def test_two_commands_do_not_write_one_directory(tmp_path):
    def meanwhile(done, total):
        result = run("write(directory, Images(4))", tmp_path)
        assert "is being written by process" in result.stderr

    write(tmp_path, Images(4), progress=meanwhile)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"on_bad_record": "skp"}, "did you mean skip"),
        ({"workers": 0}, "workers is 0"),
        ({"name": "My images"}, "cannot name a data set: use a letter and up to 99"),
        ({"records": Images(0)}, "no records for 'train'"),
    ],
)
def test_wrong_requests_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


def test_a_spec_is_checked():
    with pytest.raises(UserError, match="classes named twice: b:"):
        Spec("image", (4, 5, 3), ("b", "a", "b"))
    with pytest.raises(UserError, match="kind is 'picture'"):
        Spec("picture", (4, 5, 3))


def test_the_manifest_tells_files_counts_and_hashes(tmp_path):
    manifest = write(tmp_path)
    assert manifest == json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["class_names"] == ["ant", "bee", "cat"]
    assert manifest["request"]["source.size"] == 4
    assert verify(tmp_path) == 3 + len(manifest["metadata"])
    other = write(tmp_path / "other", Images(9))
    assert other["fingerprint"] != manifest["fingerprint"]
