"""The pictures of a network: of the samples that the run draws, with words, or refused."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

import rin_jax
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.drawing import open_run
from diffusion_jax.experiment.inside import inspect
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.weights import NEWEST
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.pictures import read_pictures
from rin_jax.figures import Figures
from rin_jax.inspection import drift


def inspected(workdir: Path, steps: int | None = None, **changes) -> list[Path]:
    config = read_workdir(workdir)
    if steps is not None:
        config.sampling.steps = steps
    options = dict(num=3, labels="", seed=0, command="python -m launch.inspect")
    return inspect(config, workdir, NEWEST, **options | changes)


@pytest.fixture(scope="module")
def rin(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("rin")
    train(tiny.config(train__steps=2), workdir)
    return workdir


def check_pictures(workdir: Path, paths: list[Path], files: list[str]) -> None:
    assert [path.name for path in paths] == files
    words = {picture.file: picture for picture in read_pictures(workdir)}
    assert set(words) == set(files)
    for path in paths:
        picture = words[path.name]
        assert (picture.section, picture.step) == ("inside", 2)
        assert picture.command == "python -m launch.inspect"
        assert picture.title and picture.caption.endswith(".") and "nan" not in picture.caption
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_a_rin_is_drawn_with_words(rin):
    paths = inspected(rin)
    names = ("attention", "latents", "adaptive", "drift")
    check_pictures(rin, paths, [f"inside_{name}.png" for name in names])


def test_a_diffussm_is_drawn_with_words(tmp_path):
    train(tiny.diffussm(train__steps=2), tmp_path)
    paths = inspected(tmp_path)
    names = ("kernels", "time_scales", "receptive_field")
    check_pictures(tmp_path, paths, [f"inside_{name}.png" for name in names])


def test_what_is_watched_makes_the_samples(rin):
    """The passes are the sampler's; not carried, each begins from nothing."""
    run = open_run(read_workdir(rin), rin, seed=5, batch_size=8)
    experiment, params = run.experiment, run.params
    indices, condition = run.chosen(np.arange(8), np.arange(8), np.arange(8))
    watched = Figures(run, indices, condition)
    images = experiment.sampler(run.mesh, seed=5)(params, indices, condition)
    assert np.abs(watched.to_images(watched.passes.x0[-1]).astype(int) - images).max() <= 1

    # A pass run again ends with the latents that the next one is handed.
    _, _, _, after = watched.seen
    handed_on = np.asarray(watched.passes.carry["latents"])
    np.testing.assert_array_equal(handed_on[0], 0)
    np.testing.assert_allclose(after[:-1], handed_on[1:], atol=1e-5)

    apart = watched.trace(carry_decay=1.0)
    np.testing.assert_array_equal(apart.carry["latents"], 0)
    _, _, _, after = watched.watch(apart)
    by_hand = [
        experiment.denoiser.apply(
            {"params": params},
            apart.x[k],
            process.NoiseLevel(jnp.broadcast_to(apart.noise.gamma[k], (8,))),
            condition,
            experiment.denoiser.initial_carry(8),
        ).carry["latents"]
        for k in (1, 2)
    ]
    change, _ = drift(jnp.asarray(after[1]), jnp.asarray(after[2]))
    expected, _ = drift(*by_hand)
    np.testing.assert_allclose(change, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(steps=1), "sampling.steps is 1: it must be at least 2"),
        (dict(labels="10"), "--labels has 10: the classes are 0 to 9"),
    ],
)
def test_what_cannot_be_inspected_is_refused(rin, changes, message):
    with pytest.raises(UserError, match=message):
        inspected(rin, **changes)


def test_videos_are_refused(tmp_path):
    config = tiny.config(model__num_classes=0)
    config.model.geometry = dict(
        kind="video",
        frames=4,
        height=4,
        width=4,
        channels=1,
        patch_size=4,
        frames_per_patch=2,
        conditioning_frames=0,
    )
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(UserError, match="is a run of videos: only images can be inspected"):
        inspected(tmp_path)


def test_latents_are_not_looked_at_without_their_autoencoder():
    config = tiny.config(autoencoder__name="stable_diffusion", model__geometry__channels=4)
    with pytest.raises(UserError, match=r"autoencoder\.weights is empty"):
        build(config).to_images(make_mesh())


def test_a_network_without_figures_is_refused(rin, monkeypatch):
    monkeypatch.setattr(rin_jax, "NETWORK", dataclasses.replace(rin_jax.NETWORK, figures=""))
    with pytest.raises(UserError, match="rin declares no figures"):
        inspected(rin)
