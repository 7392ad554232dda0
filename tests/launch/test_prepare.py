"""What is prepared is read as the source itself would be, and says what it is."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.data.clips import ClipFolder
from diffusion_jax.data.sources import DataConfig, open_source
from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def prepare(*arguments: str, status: int = 0) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, "-m", "launch.prepare", "--workers=2", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == status, result.stderr
    return result


def picture(height: int = 20, width: int = 26) -> Image.Image:
    seeds = np.random.default_rng(height).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(seeds).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes of every kind of image that is converted when it is read."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture().save(folder / "a" / "plain.jpg", quality=90)
    picture().save(folder / "a" / "turned.jpg", exif=turned)
    picture(30, 20).convert("CMYK").save(folder / "a" / "print.jpg")
    picture(17, 40).convert("L").save(folder / "a" / "grey.png")
    picture().quantize(8).save(folder / "b" / "palette.png")
    picture().save(folder / "b" / "lossy.webp")
    clear = picture()
    clear.putalpha(picture(20, 26).convert("L"))
    clear.save(folder / "b" / "clear.png")
    wide = np.asarray(picture().convert("L"), np.uint16) * 257
    Image.fromarray(wide).save(folder / "b" / "wide.png")
    return folder


def batches(name: str, path: Path, crop: str = "centre"):
    config = DataConfig(name, str(path), crop=crop, flip=True)
    stream = Stream(open_source(config, (8, 8, 3), 2), batch_size=6, seed=0, flip=True)
    return [stream[step] for step in range(4)]


@pytest.mark.parametrize("options", [["--size=8"], []], ids=["cropped", "as they are"])
def test_shards_give_what_the_folder_gives(photos, tmp_path, options):
    printed = prepare(f"--path={photos}", f"--out={tmp_path / 'set'}", *options).stdout
    begun, found = printed.split("\n", 1)
    assert begun == f"Writing 8 records to {tmp_path / 'set'}..."
    assert found.startswith("8 records, 2 classes in 1 shard:")
    for ours, theirs in zip(
        batches("tfds", tmp_path / "set"), batches("folder", photos), strict=True
    ):
        np.testing.assert_array_equal(ours["images"], theirs["images"])
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])


def test_jpegs_stay_the_files_that_they_were(photos, tmp_path):
    import tensorflow_datasets as tfds

    prepare(f"--path={photos}", f"--out={tmp_path / 'set'}")
    skip = tfds.decode.SkipDecoding()
    data = tfds.builder_from_directory(tmp_path / "set").as_data_source(
        "train", decoders={"image": skip}
    )
    stored = [bytes(record["image"]) for record in data]
    assert (photos / "a" / "plain.jpg").read_bytes() in stored
    formats = [Image.open(io.BytesIO(image)).format for image in stored]
    assert sorted(formats) == ["JPEG", *["PNG"] * 7]


def test_arrays(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(9) % 2)
    prepare("--source=npz", f"--path={tmp_path / 'set.npz'}", f"--out={tmp_path / 'set'}")
    for ours, theirs in zip(
        batches("tfds", tmp_path / "set"), batches("npz", tmp_path / "set.npz"), strict=True
    ):
        np.testing.assert_array_equal(ours["images"], theirs["images"])
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])


def test_clips(tmp_path):
    for name, frames in (("long", 9), ("longer", 12)):
        clip = np.random.default_rng(frames).integers(0, 256, (frames, 8, 8, 3), np.uint8)
        (tmp_path / "clips" / name[:4]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "clips" / name[:4] / f"{name}.npy", clip)
    assert len(ClipFolder(tmp_path / "clips")) == 2
    prepare("--source=clips", f"--path={tmp_path / 'clips'}", f"--out={tmp_path / 'set'}")

    def windows(name, path, at):
        config = DataConfig(name, str(path), frame_stride=2)
        source = open_source(config, (4, 8, 8, 3), 0)
        return [source.read(index, at=at)["images"] for index in range(2)]

    for at in (0.0, 0.5, 0.99):
        ours = windows("tfds", tmp_path / "set", at)
        theirs = windows("clips", tmp_path / "clips", at)
        np.testing.assert_array_equal(ours, theirs)


def test_a_bad_image_stops_or_is_skipped_and_listed(photos, tmp_path):
    broken = tmp_path / "broken"
    (broken / "a").mkdir(parents=True)
    encoded = (photos / "a" / "plain.jpg").read_bytes()
    (broken / "a" / "0.jpg").write_bytes(encoded)
    (broken / "a" / "1.jpg").write_bytes(encoded[:-200])
    (broken / "a" / "2.jpg").write_bytes(b"")
    arguments = (f"--path={broken}", f"--out={tmp_path / 'set'}")
    stopped = prepare(*arguments, status=2).stderr
    assert stopped.startswith("error: a/1.jpg: cannot be decoded")
    assert len(stopped.splitlines()) == 1
    printed = prepare(*arguments, "--on_bad_record=skip").stdout
    assert "1 records, 1 classes" in printed
    assert "Skipped, and listed in manifest.json: 2" in printed
    assert "a/2.jpg: is empty, zero bytes" in printed
    shard = json.loads((tmp_path / "set" / "manifest.json").read_text())["splits"]["train"]
    assert [bad["index"] for bad in shard["shards"][0]["skipped"]] == [1, 2]


def test_verify_names_a_damaged_shard(photos, tmp_path):
    out = tmp_path / "set"
    prepare(f"--path={photos}", f"--out={out}", "--size=8")
    assert "files are as they were written" in prepare("--verify", f"--out={out}").stdout
    shard = next(out.glob("*.array_record*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert f"damaged: {shard.name}" in prepare("--verify", f"--out={out}", status=2).stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--size=8", "--crop=center"], "--crop is 'center': did you mean centre?"),
        (["--channels=4"], "--channels is '4'"),
        (["--path=nowhere"], "nowhere: there is no such folder"),
        (["--source=tfds", "--path=no_such_set"], "no_such_set: TFDS cannot prepare it"),
    ],
)
def test_mistakes_are_named(photos, tmp_path, arguments, message):
    result = prepare(f"--path={photos}", f"--out={tmp_path / 'set'}", *arguments, status=2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "config, shape, num_classes, message",
    [
        (dict(name="folder"), (8, 8, 3), 1, "has 2 classes, and config.model.num_classes is 1"),
        (dict(name="folder"), (4, 8, 8, 3), 0, "of kind image, and the model wants video"),
        (dict(name="tfds"), (8, 8, 3), 0, "no prepared data set at"),
        (dict(name="npy"), (8, 8, 3), 0, "name is 'npy': did you mean npz"),
        (dict(name="npz", path=""), (8, 8, 3), 0, "data.path is empty"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(photos, config, shape, num_classes, message):
    with pytest.raises(UserError, match=message):
        open_source(DataConfig(**{"path": str(photos), **config}), shape, num_classes)
