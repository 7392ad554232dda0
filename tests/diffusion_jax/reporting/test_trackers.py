"""Trackers get every record and grid, offline; a run that continues is the same run of theirs."""

import importlib.util
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting import trackers
from diffusion_jax.reporting.metrics import MetricWriter
from diffusion_jax.reporting.trackers import open_tracker

GRID = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
CONFIG = {"train.steps": 2, "model.process_layers": [1], "data.path": ""}


def write_records(workdir: Path, name: str, first: int, config: dict = CONFIG) -> str:
    """Record two steps from `first` on as training does, and return the tracker's id of the run."""
    tracker = open_tracker(name, workdir, config)
    writer = MetricWriter(workdir, first - 1, tracker)
    for step in (first, first + 1):
        writer.write(step, {"loss": 1 / step, "grids": GRID})
        writer.write_speed(step, {"mfu": 0.25})
    writer.close()
    return json.loads((workdir / trackers.FILE).read_text())["run"]


@pytest.fixture
def mlflow(monkeypatch, tmp_path):
    """MLflow with its file store."""
    module = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return module


@pytest.mark.filterwarnings("default")  # those of MLflow about its own store
def test_mlflow_has_the_run(mlflow, tmp_path):
    workdir = tmp_path / "digits"
    workdir.mkdir()
    run = write_records(workdir, "mlflow", 1)
    assert write_records(workdir, "mlflow", 3, CONFIG | {"train.steps": 4}) == run
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("rin-diffussm").experiment_id])
    assert (found.info.run_id, found.info.status) == (run, "FINISHED")
    assert found.info.run_name == "digits"
    assert found.data.params == {name: str(value) for name, value in CONFIG.items()}
    for name, values in (("loss", [1, 1 / 2, 1 / 3, 1 / 4]), ("speed/mfu", [0.25] * 4)):
        history = sorted(client.get_metric_history(run, name), key=lambda each: each.step)
        assert [(each.step, each.value) for each in history] == list(enumerate(values, start=1))
    images = [file.path for file in client.list_artifacts(run, "images")]
    pictures = [path for path in images if path.endswith(".png")]
    assert len(pictures) == 4
    picture = Image.open(client.download_artifacts(run, pictures[0]))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), GRID)
    kept = json.loads(Path(client.download_artifacts(run, "config.json")).read_text())
    assert kept["train.steps"] == 4


@pytest.mark.filterwarnings("default")
def test_a_run_that_mlflow_does_not_know_is_one_line(mlflow, tmp_path):
    (tmp_path / trackers.FILE).write_text('{"tracker": "mlflow", "run": "0123456789abcdef"}')
    with pytest.raises(UserError, match=r"0123456789abcdef.* not found; .*delete tracker.json"):
        open_tracker("mlflow", tmp_path, CONFIG)


def wandb_records(path: Path) -> list:
    """The records of an offline run, once W&B's own process has written the last of them."""
    deadline = time.monotonic() + 60
    while not (found := list(parsed(path))) or not found[-1].HasField("exit"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def parsed(path: Path) -> Iterator:
    """The records so far: those of LevelDB's log, in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


@pytest.mark.filterwarnings("default")
def test_wandb_has_the_run(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "digits"
    workdir.mkdir()
    run = write_records(workdir, "wandb", 1)
    assert write_records(workdir, "wandb", 3) == run
    files = sorted((workdir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    values, images, config = {}, {}, {}
    for record in (record for file in files for record in wandb_records(file)):
        if record.HasField("run"):
            about = record.run
            assert (about.run_id, about.project) == (run, "rin-diffussm")
            assert about.display_name == "digits"
            config |= {each.key: json.loads(each.value_json) for each in about.config.update}
        if record.HasField("history"):
            items = {
                ".".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            step = record.history.step.num
            values[step] = items["loss"], items["speed/mfu"]
            images[step] = items["grids.path"]
    assert values == {step: (1 / step, 0.25) for step in (1, 2, 3, 4)}
    assert {name: config[name] for name in CONFIG} == CONFIG
    for step, file in zip((1, 3), files, strict=True):
        picture = Image.open(file.parent / "files" / images[step])
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), GRID)


@pytest.mark.filterwarnings("default")
def test_training_continues_the_run_of_its_tracker(mlflow, tmp_path):
    workdir = tmp_path / "run"
    train(tiny.config(train__tracker="mlflow", train__steps=2), workdir, make_mesh(1))
    run = json.loads((workdir / trackers.FILE).read_text())["run"]
    changes = dict(train__tracker="mlflow", train__steps=4, train__grid_every=4)
    train(tiny.config(**changes, train__grid_size=2), workdir, make_mesh(1))
    client = mlflow.MlflowClient()
    history = {each.step: each.value for each in client.get_metric_history(run, "loss")}
    expected = {record["step"]: record["loss"] for record in tiny.curve(workdir)}
    assert history == pytest.approx(expected) and len(history) == 4
    assert any(file.path.endswith(".png") for file in client.list_artifacts(run, "images"))
    assert client.get_run(run).data.params["train.tracker"] == "mlflow"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_before_anything_is_compiled(monkeypatch, tmp_path, name):
    found = importlib.util.find_spec
    hidden = lambda module, *rest: None if module == name else found(module, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(UserError, match=rf"{name}, which is not installed: pip install .*{name}"):
        train(tiny.config(train__tracker=name), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "parameters.txt").exists()


def test_no_tracker_writes_nothing(tmp_path):
    assert open_tracker("none", tmp_path, CONFIG) is None
    assert not any(tmp_path.iterdir())
