"""A run or an export whose JSON is damaged is refused in one line, and left as it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from damage import BROKEN, damaged
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.experiment.exporting import export, of_run
from diffusion_jax.experiment.sample_files import drawn_parts
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.start import find_start
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.reporting.pictures import Picture, read_pictures, save_picture
from diffusion_jax.storage import schemas
from launch.common.options import opened_folder
from launch.common.report import write_report

PNG = (Path(__file__).parents[2] / "docs" / "digits.png").read_bytes()
REQUEST = dict(num=2, labels="", seed=0, batch_size=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two steps that started from an export, with one picture and samples."""
    folder = tmp_path_factory.mktemp("runs")
    train(tiny.config(train__steps=1), folder / "first")
    export(of_run(folder / "first"), folder / "export", shard_size=20_000)
    train(tiny.config(train__steps=2), folder / "run", init_from=folder / "export")
    picture = Picture("x.png", "samples", "", "", 2, "")
    save_picture(folder / "run", picture, lambda path: Image.new("L", (8, 8)).save(path, "png"))
    sample(tiny.config(), folder / "run", folder / "run" / "samples", REQUEST)
    write_report(folder / "run")
    return folder / "run"


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of that run, to be damaged."""
    return shutil.copytree(run, tmp_path / "run")


def content(folder: Path) -> dict[Path, bytes]:
    """All files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def continue_run(workdir: Path) -> None:
    train(tiny.config(train__steps=3), workdir)


def draw(workdir: Path) -> None:
    sample(read_workdir(workdir), workdir, workdir / "samples", REQUEST)


@pytest.mark.parametrize(
    "file, schema, command",
    [
        ("config.json", schemas.CONFIG, continue_run),
        ("config.json", schemas.CONFIG, write_report),
        ("config.json", schemas.CONFIG, of_run),
        ("data.json", schemas.DATA, continue_run),
        ("data.json", schemas.DATA, of_run),
        ("start.json", schemas.START, continue_run),
        ("start.json", schemas.START, write_report),
        ("run.json", schemas.RUN, write_report),
        ("pictures/x.png.json", schemas.PICTURE, read_pictures),
        ("samples/request.json", schemas.REQUEST, draw),
        ("results.json", schemas.RESULT, find_results),
        ("results.json", schemas.RESULT, write_report),
        ("digit_scores.json", schemas.DIGIT_SCORES, write_report),
    ],
)
def test_every_damage_is_one_line_and_nothing_is_written(
    copy, file: str, schema: schemas.Schema, command: Callable[[Path], object]
):
    path = copy / file
    for words, data in damaged(schema):
        path.write_bytes(data)
        before = content(copy)
        with pytest.raises(UserError) as refused:
            pytest.fail(f"{words}: {command(copy)}")
        message = str(refused.value)
        assert message.startswith(f"{path} is damaged ("), (words, message)
        assert len(message.splitlines()) == 1
        assert content(copy) == before


@pytest.mark.parametrize("file", ["metrics.jsonl", "speed.jsonl"])
def test_damaged_records_are_named_before_anything_is_written(copy, file):
    path = copy / file
    whole = b'{"step": 1, "loss": 1.0}\n'
    for words, data in BROKEN.items():
        if words in ("blank", "empty"):  # which is no damage to lines
            continue
        path.write_bytes(whole + data.strip(b"\n") + b"\n" + whole)
        before = content(copy)
        with pytest.raises(UserError, match=rf"{file}, line 2, is damaged \("):
            pytest.fail(f"{words}: {continue_run(copy)}")
        assert content(copy) == before


def test_an_exports_provenance_names_nothing_outside_it(run, tmp_path):
    folder = shutil.copytree(run.parent / "export", tmp_path / "export")
    path = folder / "provenance.json"
    provenance = json.loads(path.read_text())
    given = SimpleNamespace(workdir=None, init_from=str(folder), best=False, step=None)
    for name in ("../run/x.safetensors", "/tmp/x.safetensors", "x.txt", ""):
        path.write_text(json.dumps(provenance | {"shards": {name: "0"}}))
        message = r"provenance.json (is damaged .* is no shard|names the file .* not in its folder)"
        with pytest.raises(UserError, match=message):
            opened_folder(given)
    for words, data in damaged(schemas.PROVENANCE):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"provenance.json is damaged \("):
            pytest.fail(f"{words}: {opened_folder(given)}")
        with pytest.raises(UserError, match=r"provenance.json is damaged \("):
            find_start(tmp_path / "new", tiny.config(), folder, 0)


def test_fewer_steps_than_were_taken_are_refused_and_nothing_is_written(copy):
    before = content(copy)
    message = r"config.train.steps is 1, and the run in --workdir \S+ is at step 2: give more"
    with pytest.raises(UserError, match=message):
        train(tiny.config(train__steps=1), copy)
    assert content(copy) == before


@pytest.mark.parametrize(
    "file, data, message",
    [
        ("pictures/x.png", b"damaged", "pictures/x.png: is none of PNG, GIF"),
        ("pictures/x.png", b"II*\0" + bytes(99), "pictures/x.png: is none of PNG, GIF"),
        ("grids/00000002.png", b"", "grids/00000002.png: is empty, zero bytes"),
        ("grids/2.png", PNG[:-30], "grids/2.png: cannot be decoded "),
        ("grids/2.png", Path("/dev/zero"), "grids/2.png: is a device, not a file"),
        ("grids/2.png", Path("gone"), "grids/2.png: is a link to gone, which does not exist"),
        ("metrics.jsonl", b'{"step": 1, "loss": 1e308}\n', "loss is 1e+308, not a number of"),
        ("metrics.jsonl", b'{"step": 1, "loss": 1' + b"0" * 400 + b"}\n", "has more than 64 bits"),
        ("metrics.jsonl", b'{"step": 1' + b"0" * 19 + b"}\n", "has more than 64 bits"),
    ],
)
def test_the_report_names_what_it_cannot_show(copy, file, data, message):
    path = copy / file
    path.parent.mkdir(exist_ok=True)
    if isinstance(data, Path):
        path.symlink_to(data)
    else:
        path.write_bytes(data)
    (copy / "report.html").unlink()
    with pytest.raises(UserError) as refused:
        write_report(copy)
    assert message in str(refused.value)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    "file, data",
    [
        ("checkpoints/²", b""),
        ("grids/².png", b"no grid"),
        ("speed.jsonl", b'{"step": 1}\n'),
        ("parameters.txt", b"Total: ,"),
        ("parameters.txt", b"Total: " + b"9" * 5000),
        *(
            ("run.json", f'{{"config": "{name}"}}'.encode())
            for name in ("rin/digits:2h", "rin/digits:", "rin/__init__", "base/x", "rin/gone")
        ),
    ],
)
def test_the_report_leaves_out_what_is_not_of_the_run(copy, file, data):
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_bytes(data)
    (copy / "report.html").unlink()
    assert write_report(copy).stat().st_size > 1000


def test_samples_of_unknown_origin_are_not_taken_for_those_asked_for(copy):
    (copy / "samples" / "request.json").unlink()
    before = content(copy)
    with pytest.raises(UserError, match=r"samples holds a samples\.npz of unknown origin: choose"):
        draw(copy)
    assert content(copy) == before


def test_a_part_of_samples_that_is_no_file_is_not_waited_for(tmp_path):
    (tmp_path / "parts").mkdir()
    os.mkfifo(tmp_path / "parts" / "000000000.npy")
    assert drawn_parts(tmp_path) == []


def test_nothing_is_exported_to_where_a_link_leads(run, tmp_path):
    (tmp_path / "out").symlink_to("gone")
    with pytest.raises(UserError, match="out is there already: choose another, or remove it"):
        export(of_run(run), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
