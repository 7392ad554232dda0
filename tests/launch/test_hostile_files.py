"""Commands end in one line at files that would hang them or fill the memory, and write nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.data.manifest import MANIFEST, UNFINISHED
from diffusion_jax.data.prepared import Prepared
from diffusion_jax.data.shards import dataset_name
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.features import open_images

ROOT = Path(__file__).parents[2]
TRAIN = [
    *("launch.train", *tiny.flags(), "--config.data.name=folder", "--config.train.steps=2"),
    *("--config.model.num_classes=0", "--config.objective.label_dropout=0"),
]


def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
    )


def refused(*arguments: str, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight pictures, and a link to nothing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "3a.png").symlink_to("gone.png")
    return folder


NAMED = "3a.png: is a link to gone.png, which does not exist"


def test_training_names_what_cannot_be_read(photos, tmp_path):
    refused(*_train(photos, tmp_path / "run"), message=NAMED)
    (photos / "3a.png").unlink()
    os.mkfifo(photos / "3a.png")
    refused(*_train(photos, tmp_path / "run"), message="3a.png: is a FIFO, not a file")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_leaves_out_what_cannot_be_read(photos, tmp_path):
    os.mkfifo(photos / "0a.png")
    (photos / "5a.png").symlink_to("/dev/zero")
    train = _train(photos, tmp_path / "run")
    result = run(*train, "--config.data.on_bad_record=skip", timeout=300)
    assert result.returncode == 0, result.stderr
    assert "; 3 bad records were skipped" in result.stdout
    for message in (NAMED, "0a.png: is a FIFO, not a file", "5a.png: is a device, not a file"):
        assert f"skipped: {message}" in result.stderr


def _train(photos: Path, workdir: Path) -> list[str]:
    return [*TRAIN, f"--config.data.path={photos}", f"--workdir={workdir}"]


@pytest.mark.parametrize("trap", ["dangling", "fifo", "zeros"])
def test_preparing_names_what_cannot_be_read_or_leaves_it_out(photos, tmp_path, trap):
    (photos / "3a.png").unlink()
    if trap == "fifo":
        os.mkfifo(photos / "3a.png")
    else:
        (photos / "3a.png").symlink_to("/dev/zero" if trap == "zeros" else "gone.png")
    out = tmp_path / "set"
    prepare = ["launch.prepare", "--workers=1", f"--path={photos}", f"--out={out}"]
    refused(*prepare, message="3a.png: is a ")
    assert not out.exists()
    result = run(*prepare, "--on_bad_record=skip")
    assert result.returncode == 0, result.stderr
    assert "Skipped, and listed in manifest.json: 1\n  3a.png: is a " in result.stdout
    assert len(Prepared(out, "train")) == 8


def test_encoding_latents_names_what_cannot_be_read(photos, tmp_path):
    encode = ["launch.encode_latents", f"--path={photos}", f"--out={tmp_path / 'set'}"]
    refused(*encode, "--weights=none.safetensors", message=NAMED)
    (photos / "3a.png").unlink()
    os.mkfifo(tmp_path / "vae.safetensors")
    refused(*encode, f"--weights={tmp_path / 'vae.safetensors'}", message="vae.safetensors is no")
    assert not (tmp_path / "set").exists()


def test_references_and_scores_of_what_never_ends(photos, tmp_path):
    for name in ("images.npz", "inception.pth"):
        os.mkfifo(tmp_path / name)
    out = f"--out={tmp_path / 'out.npz'}"
    inception = f"--inception={tmp_path / 'inception.pth'}"
    reference = ["launch.reference", out, inception]
    refused(*reference, f"--path={photos}", "--size=8", message=NAMED)
    for source in ("npz", "guided_diffusion"):
        refused(
            *(*reference, f"--source={source}", f"--path={tmp_path / 'images.npz'}"),
            message="images.npz is a FIFO, not a file",
        )
    refused(
        *("launch.evaluate", f"--images={photos}", out, inception),
        f"--reference={tmp_path / 'images.npz'}",
        message="images.npz is a FIFO, not a file",
    )
    assert not (tmp_path / "out.npz").exists()
    with pytest.raises(UserError, match=NAMED):
        open_images(photos)


@pytest.mark.parametrize("name", ["64px", "写真", "a" * 255])
def test_a_prepared_set_may_have_any_name(photos, tmp_path, name):
    """The name that TFDS wants is made of it."""
    (photos / "3a.png").unlink()
    out = tmp_path / name
    result = run("launch.prepare", "--workers=1", f"--path={photos}", f"--out={out}")
    assert result.returncode == 0, result.stderr
    assert str(out) in result.stdout
    assert len(Prepared(out, "train")) == 8


def test_names_that_were_taken_are_still_those_of_before():
    """A preparation that was stopped before directories could have any name continues."""
    for name, internal in {
        "photos64": "photos64",
        "imagenet-256.latents": "imagenet_256_latents",
        "Été": "data__t_",
        "64px": "data_64px",
        "": "data_",
    }.items():
        assert dataset_name(Path(name)) == internal


def test_a_class_whose_name_is_not_utf8_is_named_before_anything_is_written(photos, tmp_path):
    folder = tmp_path / "classes"
    for name in (b"caf\xe9", b"tea"):
        path = folder / os.fsdecode(name)
        path.mkdir(parents=True)
        shutil.copy(photos / "0.png", path)
    prepare = ["launch.prepare", "--workers=1", f"--path={folder}", f"--out={tmp_path / 'set'}"]
    refused(*prepare, message=r"the class 'caf\udce9' is not UTF-8: rename it")
    assert not (tmp_path / "set").exists()
    latin1 = tmp_path / os.fsdecode(b"caf\xe9")
    refused(
        *("launch.prepare", f"--path={photos}", f"--out={latin1}", "--on_bad_record=skip"),
        message="is not UTF-8: rename it",
    )
    assert not latin1.exists()


@pytest.mark.parametrize("name", ["two\nlines", "two\rlines", " "])
def test_a_class_that_is_no_line_is_named(photos, tmp_path, name):
    """TFDS keeps the names of classes in the lines of a file."""
    (tmp_path / "classes" / name).mkdir(parents=True)
    shutil.copy(photos / "0.png", tmp_path / "classes" / name)
    prepare = ["launch.prepare", f"--path={tmp_path / 'classes'}", f"--out={tmp_path / 'set'}"]
    refused(*prepare, message=f"the class {name!r} does not fit into a line: rename it")
    assert not (tmp_path / "set").exists()


def test_a_file_whose_name_is_not_utf8_is_read_and_printed(photos, tmp_path):
    (photos / "3a.png").unlink()
    shutil.copy(photos / "0.png", photos / os.fsdecode(b"\xe9.png"))
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"")
    prepare = ["launch.prepare", "--workers=2", f"--path={photos}", f"--out={tmp_path / 'set'}"]
    result = run(*prepare, "--on_bad_record=skip", PYTHONIOENCODING="utf-8:strict")
    assert result.returncode == 0, result.stderr
    assert r"\udcff.png: is empty, zero bytes" in result.stdout
    assert len(Prepared(tmp_path / "set", "train")) == 9


def test_a_manifest_cannot_have_files_written_elsewhere(photos, tmp_path):
    """The case of the report: the command that mends a directory obeyed its manifest."""
    out = tmp_path / "a" / "b" / "set"
    (photos / "3a.png").unlink()
    prepare = ["launch.prepare", "--workers=1", f"--path={photos}", f"--out={out}"]
    assert run(*prepare).returncode == 0
    manifest = json.loads((out / MANIFEST).read_text())
    shard = manifest["splits"]["train"]["shards"][0]
    (out / shard["file"]).unlink()
    shard["file"] = "../../../PWN"
    (out / MANIFEST).write_text(json.dumps(manifest))
    refused(*prepare, message="names the file '../../../PWN', which is not in its folder")
    assert not list(tmp_path.glob("PWN*")) and not (out / UNFINISHED).exists()
