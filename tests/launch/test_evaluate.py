"""Evaluation by its commands: the same figures whichever way the images come, and mistakes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from inception_recipe import inception_tensors
from PIL import Image
from processes import ROOT, training

from diffusion_jax.data.sources import DataConfig
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import extractor, judge
from diffusion_jax.evaluation.accumulator import Accumulator
from diffusion_jax.evaluation.references import load_reference
from diffusion_jax.evaluation.results import Result, find_results
from diffusion_jax.experiment import eval_in_training, features, scoring
from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.training.checkpoints import Checkpoints
from launch import reference

COUNT = 12


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """Inception on 8 simulated devices takes a second an image."""
    patch = pytest.MonkeyPatch()
    patch.setattr(features, "BATCH", 4)
    patch.setattr(features, "SAVE_EVERY", 0)
    patch.setattr(eval_in_training, "BATCH", 8)
    make = extractor.make_extractor
    patch.setattr(extractor, "make_extractor", lambda *a: make(*a, at_once=1))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """weights.npz, real.npz and fake.npz of twelve small grey images."""
    folder = tmp_path_factory.mktemp("evaluation")
    np.savez(folder / "weights.npz", **inception_tensors())
    rng = np.random.default_rng(0)
    for name, top in (("real", 256), ("fake", 128)):
        np.savez(folder / f"{name}.npz", arr_0=rng.integers(0, top, (COUNT, 8, 8, 1), np.uint8))
    return folder


def refer(folder, **changes):
    options = dict(
        source="npz",
        path=str(folder / "real.npz"),
        split="train",
        size=0,
        crop="centre",
        inception=str(folder / "weights.npz"),
        resize="tf1",
        out=str(folder / "reference.npz"),
    )
    reference.main(SimpleNamespace(**options | changes))
    return load_reference(folder / "reference.npz")


@pytest.fixture(scope="module")
def referred(folder):
    return refer(folder)


def score(folder, images, out, weights="weights.npz"):
    files = (folder / "reference.npz", folder / weights)
    about = Result(config="", command="a test")
    return scoring.score(images, out, judge.load_judge(*files, make_mesh()), about)


def test_a_reference_says_what_it_is_of(folder, referred):
    assert referred.extraction.resolution == (8, 8)
    assert referred.extraction.resize == "tf1"
    assert (referred.num_images, referred.crop) == (COUNT, None)
    assert referred.features.shape == (COUNT, 2048)


def test_a_published_reference_is_taken_over(folder, referred, tmp_path):
    """Its images, beside its statistics, give precision and recall."""
    with np.load(folder / "reference.npz") as ours, np.load(folder / "real.npz") as real:
        statistics = {name: ours[name] for name in ("mu", "sigma", "mu_s", "sigma_s")}
        colour = real["arr_0"].repeat(3, axis=-1)
    np.savez(tmp_path / "VIRTUAL.npz", arr_0=colour, **statistics)
    out = str(tmp_path / "reference.npz")
    refer(folder, source="guided_diffusion", path=str(tmp_path / "VIRTUAL.npz"), out=out)
    theirs = load_reference(tmp_path / "reference.npz")
    assert theirs.num_images is None
    np.testing.assert_allclose(theirs.features, referred.features, atol=1e-4)
    np.testing.assert_array_equal(theirs.pool.covariance, referred.pool.covariance)


def test_real_images_are_at_distance_0_and_others_are_not(folder, referred, tmp_path):
    same = score(folder, folder / "real.npz", tmp_path / "same")
    assert same.metrics["fid"] < 1e-3
    assert same.metrics["sfid"] < 1e-3
    assert (same.metrics["precision"], same.metrics["recall"]) == (1, 1)
    other = score(folder, folder / "fake.npz", tmp_path / "other")
    assert other.metrics["fid"] > 1
    written = json.loads((tmp_path / "other" / "results.json").read_text())
    assert written["counts"]["samples"] == COUNT
    assert written["reference"]["fingerprint"] == referred.fingerprint
    found = find_results(tmp_path)[tmp_path / "same" / "results.json"]
    assert found.metrics == same.metrics


def test_a_folder_scores_as_its_array_does_after_an_interruption_too(
    folder, referred, tmp_path, monkeypatch
):
    (tmp_path / "images").mkdir()
    with np.load(folder / "fake.npz") as archive:
        for index, image in enumerate(archive["arr_0"]):
            Image.fromarray(image[..., 0]).save(tmp_path / "images" / f"{index:02d}.png")
    expected = score(folder, folder / "fake.npz", tmp_path / "whole").metrics

    update, seen = Accumulator.update, []

    def interrupted(self, features):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(features.pool))
        update(self, features)

    monkeypatch.setattr(Accumulator, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(folder, tmp_path / "images", tmp_path / "scores")
    monkeypatch.setattr(Accumulator, "update", lambda self, f: (seen.append(0), update(self, f)))
    ours = score(folder, tmp_path / "images", tmp_path / "scores").metrics
    assert len(seen) == 3  # eight images were scored already
    assert ours == pytest.approx(expected, rel=1e-4)
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["results.json"]


@pytest.fixture(scope="module")
def scoring_itself(folder, referred) -> dict:
    """Changes to a config: a run of four steps that scores ten samples after two and four."""
    return {
        "train__steps": 4,
        "train__eval_every": 2,
        "train__checkpoint_every": 4,
        "evaluation__inception": str(folder / "weights.npz"),
        "evaluation__reference": str(folder / "reference.npz"),
        "evaluation__num": 10,
    }


@pytest.fixture(scope="module")
def scored(scoring_itself, tmp_path_factory) -> Path:
    """Such a run, not interrupted."""
    workdir = tmp_path_factory.mktemp("scored")
    train(tiny.config(**scoring_itself), workdir, make_mesh(1), name="rin/digits")
    return workdir


def test_training_scores_itself_and_keeps_the_best(scored):
    fids = {r["step"]: r["fid"] for r in tiny.curve(scored) if "fid" in r}
    assert list(fids) == [2, 4]
    assert Checkpoints(scored / "best").latest() == min(fids, key=fids.get)
    assert json.loads((scored / "run.json").read_text())["config"] == "rin/digits"


def test_a_request_to_stop_is_heeded_between_batches(scored, scoring_itself, tmp_path, monkeypatch):
    """The step is saved, and a rerun makes up for the score."""
    update, batches = Accumulator.update, []

    def interrupted(self, features) -> None:
        update(self, features)
        batches.append(features)
        if len(batches) == 3:  # the first of two after four steps
            os.kill(os.getpid(), signal.SIGTERM)

    config = tiny.config(**scoring_itself)
    with monkeypatch.context() as patch:
        patch.setattr(Accumulator, "update", interrupted)
        outcome = train(config, tmp_path, make_mesh(1))
    assert (outcome.step, outcome.stopped_by, len(batches)) == (4, "SIGTERM", 3)
    assert tiny.curve(tmp_path) == tiny.curve(scored)[:-1]
    assert train(config, tmp_path, make_mesh(1)).finished
    assert tiny.curve(tmp_path) == tiny.curve(scored)


SMALL = """
import functools, runpy
from diffusion_jax.evaluation import extractor
from diffusion_jax.experiment import eval_in_training
eval_in_training.BATCH = 1
extractor.make_extractor = functools.partial(extractor.make_extractor, at_once=1)
runpy.run_module("launch.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_kill_within_a_score_loses_no_step(scoring_itself, tmp_path):
    _, *arguments = training(**scoring_itself)
    command = [sys.executable, "-c", SMALL, *arguments, f"--workdir={tmp_path}"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    how = dict(cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, **how)
    said = ""
    while said.count("Scoring") < 2:
        said += process.stdout.readline()
        assert process.poll() is None, said
    while not (tmp_path / "checkpoints" / "4").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert [record["step"] for record in tiny.curve(tmp_path) if "fid" in record] == [2]
    said = subprocess.run(command, **how, check=True).stdout
    assert "step 4 of 4" in said.splitlines()[0]
    assert [record["step"] for record in tiny.curve(tmp_path) if "fid" in record] == [2, 4]


def test_mistakes_are_named_before_the_work_begins(folder, referred, tmp_path):
    wide = tmp_path / "wide.npz"
    np.savez(wide, arr_0=np.zeros((4, 8, 16, 1), np.uint8))
    with pytest.raises(UserError, match="images are of 8 x 16 pixels and 8 x 8 pixels"):
        score(folder, wide, tmp_path / "out")
    np.savez(wide, arr_0=np.zeros((4, 8, 8, 1), np.float32))
    with pytest.raises(UserError, match="arr_0 is float32 of shape"):
        score(folder, wide, tmp_path / "out")
    (tmp_path / "mixed").mkdir()
    for name, side in (("a", 8), ("b", 9)):
        Image.new("RGB", (side, side)).save(tmp_path / "mixed" / f"{name}.png")
    with pytest.raises(UserError, match=r"b.png is 9 x 9 and a.png 8 x 8: give images of one size"):
        score(folder, tmp_path / "mixed", tmp_path / "out")
    other = {**inception_tensors(), "fc.bias": np.ones(1008, np.float32)}
    np.savez(folder / "other.npz", **other)
    with pytest.raises(UserError, match="Inception's weights are"):
        score(folder, folder / "fake.npz", tmp_path / "out", weights="other.npz")
    with pytest.raises(UserError, match="holds something else, not reference statistics"):
        files = (folder / "fake.npz", folder / "weights.npz")
        judge.load_judge(*files, make_mesh())


def test_a_reference_is_of_images(tmp_path):
    path = tmp_path / "videos.npz"
    np.savez(path, images=np.zeros((2, 3, 8, 8, 3), np.uint8))
    config = DataConfig("npz", str(path), "train", "centre")
    with pytest.raises(UserError, match=r"videos\.npz: holds examples of kind video, not images"):
        features.reference_of_data(config, 0, None, tmp_path)
