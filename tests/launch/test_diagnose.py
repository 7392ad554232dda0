"""A run's diagnostics: numbers and pictures of it, of the data that were asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.diagnosis import LEVELS, diagnose
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.weights import NEWEST
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.reporting.pictures import read_pictures


def measured(workdir: Path, split: str = "train", **changes) -> tuple[list[Path], dict]:
    config = read_workdir(workdir)
    config.data.split = split
    options = dict(num=20, batch_size=16, seed=0, command="python -m launch.diagnose")
    paths = diagnose(config, workdir, NEWEST, **options | changes)
    return paths[1:], json.loads(paths[0].read_text())


@pytest.fixture(scope="module")
def rin(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("rin")
    train(tiny.config(train__steps=2), workdir)
    return workdir


@pytest.fixture(scope="module")
def of_rin(rin):
    return measured(rin)


def check_pictures(workdir: Path, paths: list[Path], names: tuple[str, ...]) -> None:
    assert [path.name for path in paths] == [f"inside_{name}.png" for name in names]
    words = {picture.file: picture for picture in read_pictures(workdir)}
    for path in paths:
        picture = words[path.name]
        assert (picture.section, picture.step) == ("inside", 2)
        assert picture.caption.endswith(".") and "nan" not in picture.caption
        with Image.open(path) as image:
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_a_rin_is_measured_and_drawn_with_words(rin, of_rin):
    paths, record = of_rin
    names = ("loss", "gradient", "latent_size")
    check_pictures(rin, paths, names)
    assert (record["step"], record["examples"], record["split"]) == (2, 32, "train")
    assert len(record["t"]) == len(record["gamma"]) == LEVELS
    assert record["gamma"] == sorted(record["gamma"], reverse=True)
    lines = {f"{name}, {way}" for name in ("EMA", "raw") for way in ("carried", "not carried")}
    assert set(record["loss"]) == lines
    for found in record["loss"].values():
        assert len(found["mean"]) == len(found["standard_error"]) == LEVELS
        assert min(found["mean"]) > 0
    assert record["gradient_norm"].keys() == record["parameter_norm"].keys()
    for way in ("carried", "not carried"):
        assert np.shape(record["latents"][way]["norm"]) == (3, 1)  # reverse steps, blocks


def test_the_batch_size_changes_nothing_and_other_data_do(rin, of_rin):
    _, record = of_rin
    _, other = measured(rin, num=32, batch_size=32)
    for name, found in record["loss"].items():
        np.testing.assert_allclose(found["mean"], other["loss"][name]["mean"], rtol=1e-4)
    _, held_out = measured(rin, num=32, batch_size=32, split="held_out")
    assert held_out["split"] == "held_out"
    assert held_out["loss"] != other["loss"]


def test_a_network_without_carry_has_one_line_for_each_of_its_weights(tmp_path):
    train(tiny.diffussm(train__steps=2), tmp_path)
    paths, record = measured(tmp_path)
    check_pictures(tmp_path, paths, ("loss", "gradient"))
    assert set(record["loss"]) == {"EMA", "raw"}
    assert "latents" not in record


def test_mistakes_are_named(rin, tmp_path):
    with pytest.raises(UserError, match=r"data\.split is 'tset'"):
        measured(rin, split="tset")
    with pytest.raises(UserError, match="holds no run"):
        measured(tmp_path)
