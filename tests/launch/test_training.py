"""Whole runs: the same on any number of devices, and after any interruption."""

import io
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from processes import check_kills
from tensorboardX.proto.event_pb2 import Event

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.training.loop import Diverged


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of six steps on eight devices."""
    workdir = tmp_path_factory.mktemp("finished")
    train(tiny.config(train__grid_every=3, train__grid_size=20), workdir)
    return workdir


def test_a_run_leaves_what_its_summary_says(finished):
    assert [record["step"] for record in tiny.curve(finished)] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "gradient_norm", "learning_rate"} < set(tiny.curve(finished)[0])
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["4", "6"]
    assert list((finished / "tensorboard").glob("events*"))
    speeds = [json.loads(line) for line in (finished / "speed.jsonl").read_text().splitlines()]
    assert 0 < len(speeds) <= 6
    assert all({"images_per_second", "input_wait_fraction"} < set(record) for record in speeds)
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 6
    assert "Total" in (finished / "parameters.txt").read_text()
    for step in (3, 6):
        grid = np.asarray(Image.open(finished / "grids" / f"{step:08d}.png"))
        assert grid[-2 * 34 :].shape == (
            2 * 34,
            10 * 34,
            3,
        )  # ten classes across, 8 pixels enlarged to 32


def test_a_log_says_how_far_a_run_is(tmp_path, capfd):
    """Off a terminal: a line for each record, and one before whatever may take minutes."""
    train(tiny.config(train__log_every=2, train__grid_every=4, train__grid_size=20), tmp_path)
    printed, errors = capfd.readouterr()
    about, compiling, *steps = printed.splitlines()
    assert "step 0 of 6" in about
    assert compiling == "Compiling the train step..."
    lines = [line for line in steps if line.startswith("step")]
    for step, line, record in zip((2, 4, 6), lines, tiny.curve(tmp_path), strict=True):
        loss, pace = f"{record['loss']:.4f}", r"[\d,.]+ images/s, \d\d:\d\d left"
        assert re.fullmatch(f"step {step} of 6: loss {loss}, {pace}", line)
    drawing = "Drawing 20 samples for a grid, 3 steps each..."
    assert steps == [lines[0], lines[1], drawing, lines[2], drawing]
    assert errors == ""


def read_events(path: Path) -> list[Event]:
    """TensorBoard's records: 8 bytes of length, 4 of its checksum, the event, 4 of its own."""
    content, events, start = path.read_bytes(), [], 0
    while start < len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        events.append(Event.FromString(content[start + 12 : start + 12 + length]))
        start += length + 16
    return events


def test_tensorboard_shows_the_grids(finished):
    (path,) = (finished / "tensorboard").glob("events*")
    shown = {
        event.step: value.image.encoded_image_string
        for event in read_events(path)
        for value in event.summary.value
        if value.tag == "grids"
    }
    assert sorted(shown) == [3, 6]
    for step, encoded in shown.items():
        expected = Image.open(finished / "grids" / f"{step:08d}.png")
        np.testing.assert_array_equal(Image.open(io.BytesIO(encoded)), expected)


def test_nothing_is_compiled_after_the_first_steps(finished, tmp_path):
    """Twice the steps, grids and checkpoints take as many compilations."""
    compiled = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled[-1] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for steps in (3, 6):
            compiled.append(0)
            config = tiny.config(train__steps=steps, train__grid_every=3, train__grid_size=20)
            train(config, tmp_path / str(steps))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled[0] == compiled[1] > 0


def test_one_device_gives_the_curve_of_eight(finished, tmp_path):
    train(tiny.config(), tmp_path, make_mesh(1))
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(finished), rtol=1e-5)


def test_accumulation_is_the_large_batch(finished, tmp_path):
    train(tiny.config(train__accumulate=2), tmp_path)
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(finished), rtol=1e-5)


def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(finished, tmp_path):
    """The first part ends in a checkpoint of step 3; a record beyond it is computed again."""
    train(tiny.config(train__steps=3), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 123}\n{"step": 5, "lo')  # a run killed while writing
    train(tiny.config(), tmp_path)
    assert tiny.curve(tmp_path) == tiny.curve(finished)


def test_a_record_is_the_mean_of_its_interval(finished, tmp_path):
    train(tiny.config(train__log_every=3), tmp_path)
    every, third = tiny.curve(finished), tiny.curve(tmp_path)
    assert [record["step"] for record in third] == [3, 6]
    for record in third:
        interval = every[record["step"] - 3 : record["step"]]
        for name in ("loss", "gradient_norm"):
            mean = np.mean([each[name] for each in interval])
            np.testing.assert_allclose(record[name], mean, rtol=1e-6)
        assert record["learning_rate"] == interval[-1]["learning_rate"]


def test_an_interval_that_a_restart_cuts_begins_anew(finished, tmp_path):
    """Nothing changes if checkpoints are multiples of log_every; else one mean has fewer steps."""
    config = dict(train__log_every=2, train__checkpoint_every=2)
    train(tiny.config(**config), tmp_path / "whole")
    train(tiny.config(**config, train__steps=4), tmp_path / "even")
    train(tiny.config(**config), tmp_path / "even")
    assert tiny.curve(tmp_path / "even") == tiny.curve(tmp_path / "whole")
    train(tiny.config(**config, train__steps=3), tmp_path / "odd")
    train(tiny.config(**config), tmp_path / "odd")
    whole, odd = tiny.curve(tmp_path / "whole"), tiny.curve(tmp_path / "odd")
    assert [odd[0], odd[2]] == [whole[0], whole[2]]
    assert odd[1] == tiny.curve(finished)[3]  # of step 4 alone


def test_a_finished_run_is_left_as_it_is(finished):
    before = tiny.curve(finished)
    train(tiny.config(train__grid_every=3, train__grid_size=20), finished)
    assert tiny.curve(finished) == before


def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    config = tiny.config(
        optimizer__name="adamw", optimizer__learning_rate=1e30, train__checkpoint_every=1
    )
    with pytest.raises(Diverged, match=r"diverged at step 2 .*checkpoint is of step 1.*Likely"):
        train(config, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]


def test_another_config_is_refused_by_field_and_values(finished):
    with pytest.raises(UserError, match=r"model.latent_dim is 32 here and 16 there"):
        train(tiny.config(model__latent_dim=32), finished)
    with pytest.raises(UserError, match=r"train.batch_size is 8 here and 16 there"):
        train(tiny.config(train__batch_size=8), finished)


def test_other_data_are_refused_and_both_are_named(finished, tmp_path):
    """The same data may lie elsewhere; other pixels at the same place are other data."""
    path, images = tmp_path / "set.npz", np.zeros((20, 8, 8, 1), np.uint8)
    np.savez(path, images=images, labels=np.arange(20) % 10)
    config = tiny.config(data__name="npz", data__path=str(path), train__steps=1)
    train(config, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "data.json").read_text())
    config.data.path = str(path.rename(tmp_path / "moved.npz"))
    train(config, tmp_path / "run")
    np.savez(config.data.path, images=images + 1, labels=np.arange(20) % 10)
    there = rf"other data, \S+moved.npz \(20 examples, {before['fingerprint'][:12]}\)"
    message = rf"{there}, and config.data is \S+moved.npz \(20 examples, [0-9a-f]{{12}}\)"
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")


def test_another_models_checkpoint_is_refused(finished, tmp_path):
    """Also where the directory's config.json is missing."""
    (tmp_path / "checkpoints").symlink_to(finished / "checkpoints")
    with pytest.raises(UserError, match=r"checkpoint 6 of .* holds another model: \S+ has"):
        train(tiny.config(model__latent_dim=32), tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train(tiny.config(), tmp_path / "file" / "run")


def test_a_batch_that_does_not_fit_the_devices_is_refused(tmp_path):
    message = r"batch_size is 12: it must be a multiple of 8 \(8 devices x 1"
    with pytest.raises(UserError, match=message):
        train(tiny.config(train__batch_size=12), tmp_path)


def test_a_killed_run_continues_on_its_curve_bit_for_bit(tmp_path):
    check_kills(tmp_path, hosts=1, kills=1, steps=30, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [1, 2])
def test_twenty_kills_change_nothing(tmp_path, hosts):
    check_kills(tmp_path, hosts, kills=20, steps=300, seed=int(os.environ.get("KILL_SEED", 1)))
