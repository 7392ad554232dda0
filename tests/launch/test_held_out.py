"""The loss on held-out data is recorded in training, and is a function of the weights alone."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from diffusion_jax.data.arrays import digits
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.held_out import held_out_source, measure_held_out
from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh
from launch.common.report import write_report


@pytest.fixture(scope="module")
def state():
    """A new network, with other EMA weights than its parameters."""
    made = build(tiny.config()).init_state(0, 6)
    return made.replace(ema=jax.tree.map(lambda leaf: leaf + 0.01, made.params))


def measured(state, devices: int = 1, **changes: object) -> float:
    config = tiny.config(train__held_out_every=2, **changes)
    (callback,) = measure_held_out(config, build(config), make_mesh(devices), Path())
    assert callback.every == 2
    (name,) = values = callback.call(2, state)
    assert name == "held_out_loss"
    assert callback.call(4, state) == values  # the noise does not depend on the step
    return values[name]


def test_it_depends_on_the_ema_and_the_seed_and_not_on_devices_or_batches(state):
    loss = measured(state)
    assert loss == pytest.approx(measured(state, devices=8), rel=1e-5)
    assert loss == pytest.approx(measured(state, train__batch_size=128), rel=1e-5)
    assert loss == measured(state.replace(params=jax.tree.map(np.zeros_like, state.params)))
    assert abs(measured(state.replace(ema=state.params)) / loss - 1) > 1e-4
    assert abs(measured(state, seed=1) / loss - 1) > 1e-4
    assert abs(measured(state, train__held_out_num=100) / loss - 1) > 1e-4


def test_the_examples_are_those_held_out(tmp_path):
    config = tiny.config(train__held_out_every=2)
    source, held_out = held_out_source(config, build(config)), digits("held_out")
    assert len(source) == len(held_out.images)
    np.testing.assert_array_equal(source.read(5)["images"], held_out.images[5])
    config.train.held_out_split = "train"
    with pytest.raises(UserError, match=r"data are 'train' of '', which the run trains on"):
        held_out_source(config, build(config))

    config.train.held_out_every = 0
    with pytest.raises(UserError, match=r"held_out_split is 'train', and .*held_out_every is 0"):
        measure_held_out(config, build(config), make_mesh(1), tmp_path)
    config.train.update(held_out_every=2, held_out_split="test")
    with pytest.raises(UserError, match=r"data\.split is 'test': choose"):
        held_out_source(config, build(config))
    config.train.held_out_split = ""

    np.savez(tmp_path / "a.npz", images=held_out.images, labels=held_out.labels)
    np.savez(tmp_path / "b.npz", images=held_out.images[:9], labels=held_out.labels[:9])
    config.data.update(name="npz", path=str(tmp_path / "a.npz"))
    with pytest.raises(UserError, match=r"data.name=npz have no splits: give .*held_out_path"):
        held_out_source(config, build(config))
    config.train.held_out_path = str(tmp_path / "a.npz")
    with pytest.raises(UserError, match="which the run trains on"):
        held_out_source(config, build(config))
    config.train.held_out_path = str(tmp_path / "b.npz")
    assert len(held_out_source(config, build(config))) == 9


def test_it_is_recorded_beside_the_training_loss_and_shown(tmp_path):
    config = tiny.config(train__held_out_every=2, train__held_out_num=40)
    train(config, tmp_path)
    found = [record for record in tiny.curve(tmp_path) if "held_out_loss" in record]
    assert [record["step"] for record in found] == [2, 4, 6]
    assert all(record.keys() == {"step", "held_out_loss"} for record in found)
    page = write_report(tmp_path).read_text()
    data = json.loads(page.split('data-curve="')[1].split('"')[0].replace("&#34;", '"'))
    assert [line["name"] for line in data["lines"]] == ["loss", "held out"]
    assert data["lines"][1]["values"][1::2] == pytest.approx(
        [record["held_out_loss"] for record in found], rel=1e-5
    )
