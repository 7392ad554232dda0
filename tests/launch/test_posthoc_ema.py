"""Widths chosen after training: what was tracked comes back, through kills and on any mesh."""

from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exports import read_export, to_tensors
from diffusion_jax.experiment.posthoc_ema import FOLDER, reconstruct, stored_steps
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.weights import Checkpoint, restore_state
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.training.power_ema import gamma_of

WIDTHS = (0.1, 0.25)


def config(**changes):
    return tiny.config(
        posthoc_ema__sigma_rels=WIDTHS,
        posthoc_ema__every=2,
        train__checkpoint_every=1,
        train__keep_checkpoints=6,
        **changes,
    )


def state_of(workdir: Path, step: int | None = None):
    made, mesh = read_workdir(workdir), make_mesh()
    return jax.device_get(restore_state(workdir, made, build(made), mesh, Checkpoint(step=step)))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    train(config(), workdir, name="rin/digits")
    return workdir


def check_same(tree, other, **tolerance) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


def test_the_tracked_averages_are_those_of_the_profiles(run):
    """Of the parameters after each update, weighed by the integrals of the profile."""
    history = [state_of(run, step).params for step in range(1, 7)]
    for width, average in zip(WIDTHS, state_of(run).power_emas, strict=True):
        weights = np.diff((np.arange(7) / 6) ** (gamma_of(width) + 1))
        expected = jax.tree.map(
            lambda *leaves, weights=weights: np.tensordot(weights, np.stack(leaves), 1), *history
        )
        check_same(average, expected, rtol=1e-4, atol=1e-6)


def test_a_tracked_width_is_written_as_it_was_tracked(run, tmp_path):
    folders = reconstruct(run, [0.25, 0.15], "a test", out=tmp_path)
    assert [folder.name for folder in folders.values()] == ["step6_sigma0.25", "step6_sigma0.15"]
    export = read_export(folders[0.25])
    about = export.provenance
    assert (about["step"], about["images_seen"], about["config"]) == (6, 96, "rin/digits")
    tracked = to_tensors(state_of(run).power_emas[1])
    check_same(export.tensors, tracked, rtol=1e-5, atol=1e-6)
    (earlier,) = reconstruct(run, [0.25], "a test", step=4, out=tmp_path).values()
    check_same(
        read_export(earlier).tensors,
        to_tensors(state_of(run, 4).power_emas[1]),
        rtol=1e-5,
        atol=1e-6,
    )
    before = (folders[0.15] / "model.safetensors").stat().st_mtime_ns
    reconstruct(run, [0.15], "a test", out=tmp_path)  # it is there
    assert (folders[0.15] / "model.safetensors").stat().st_mtime_ns == before


def test_a_continued_run_stores_what_an_uninterrupted_one_does(run, tmp_path):
    train(config(train__steps=4), tmp_path)
    train(config(), tmp_path)
    assert stored_steps(tmp_path) == stored_steps(run) == [2, 4, 6]
    check_same(state_of(tmp_path).power_emas, state_of(run).power_emas, rtol=0)
    folders = [
        reconstruct(each, [0.2], "a test", out=tmp_path / each.name) for each in (run, tmp_path)
    ]
    first, second = (read_export(each[0.2]).tensors for each in folders)
    check_same(first, second, rtol=0)


def test_what_a_run_did_not_store_when_it_was_stopped_is_stored_when_it_continues(run, tmp_path):
    train(config(train__steps=2), tmp_path)
    (tmp_path / FOLDER / "2").rename(tmp_path / "aside")
    train(config(train__steps=3), tmp_path)
    assert stored_steps(tmp_path) == [2, 3]


def test_averages_are_sharded_as_the_parameters(run):
    made = config()
    experiment = build(made)
    state = jax.eval_shape(lambda: experiment.init_state(0, 6))
    sharding = experiment.sharding(state, make_mesh(fsdp=4))
    for average in sharding.power_emas:
        assert average == sharding.params


def test_mistakes_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"--step is 5: averages are stored of 2, 4, 6"):
        reconstruct(run, [0.1], "a test", step=5)
    with pytest.raises(UserError, match=r"sigma_rel is 0.5: it must be above 0 and at most 0.288"):
        reconstruct(run, [0.5], "a test")
    with pytest.raises(UserError, match=r"sigma_rels is .*an element is 0.5.* at most 0.288"):
        build(tiny.config(posthoc_ema__sigma_rels=(0.5,)))
    train(tiny.config(train__steps=1), tmp_path)
    with pytest.raises(UserError, match=r"has stored no averages: train with"):
        reconstruct(tmp_path, [0.1], "a test")
