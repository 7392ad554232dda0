"""Quality over a field: each point is the run's at that value, once, and all are drawn."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from absl import flags
from parsed import parsed
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.extractor import Extractor
from diffusion_jax.evaluation.judge import Judge
from diffusion_jax.evaluation.results import Result, read_result, write_result
from diffusion_jax.experiment import sweep
from diffusion_jax.experiment.training import train
from diffusion_jax.reporting.pictures import read_pictures
from launch import sweep as command
from launch.common.options import define_samples


def define() -> None:
    define_samples(num=8)
    for name in ("vary", "reference", "inception"):
        flags.DEFINE_string(name, "", "")


def options(workdir, vary, **changes) -> flags.FlagValues:
    made = dict(workdir=workdir, vary=vary, batch_size=8, reference="r.npz", inception="i.npz")
    return parsed(define, *(f"--{name}={value}" for name, value in (made | changes).items()))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    changes = dict(
        train__checkpoint_every=1, posthoc_ema__sigma_rels=(0.1, 0.25), posthoc_ema__every=1
    )
    train(tiny.config(train__steps=2, **changes), workdir, name="rin/digits")
    return workdir


@pytest.fixture
def scored(monkeypatch):
    """Scores that tell the samples apart, without Inception; the folders that were scored."""
    folders, about = [], {"fingerprint": "of the reference"}
    compared = SimpleNamespace(about=lambda: about)

    def load_judge(reference, inception, mesh) -> Judge:
        return Judge(compared, Extractor(None, "tf1", str(inception)))

    def score(images, out, judge, made) -> Result:
        with np.load(images) as archive:
            mean = float(archive["arr_0"].mean())
        folders.append(out)
        result = dataclasses.replace(
            made,
            metrics={"fid": mean, "kid": mean / 2},
            counts={"samples": 8},
            weights=made.weights | {"inception": judge.extract.weights},
            reference=about,
        )
        write_result(out / "results.json", result)
        return result

    monkeypatch.setattr(command, "load_judge", load_judge)
    monkeypatch.setattr(sweep, "score", score)
    return folders


def test_every_point_is_scored_once_and_drawn(run, scored, capsys):
    command.main(options(run, "steps=4,2"))
    assert [read_result(folder / "results.json").steps for folder in scored] == [2, 4]
    for folder, steps in zip(scored, (2, 4), strict=True):
        assert json.loads((folder / "request.json").read_text())["sampling"]["steps"] == steps
    said = capsys.readouterr().out
    assert "| steps 2 |" in said and "| steps 4 |" in said
    (picture,) = [each for each in read_pictures(run) if each.file == "quality_by_steps.png"]
    assert picture.title == "Quality by reverse steps" and "8 samples" in picture.caption
    with Image.open(run / "pictures" / picture.file) as image:
        assert min(image.size) > 200

    command.main(options(run, "steps=2,3,4"))
    assert [read_result(folder / "results.json").steps for folder in scored] == [2, 4, 3]
    command.main(options(run, "steps=2", inception="other.npz"))  # by another Inception
    assert len(scored) == 4


def test_a_run_is_scored_along_its_training(run, scored):
    _, by_step = command.run(options(run, "step=2,1"), "")
    assert {value: result.step for value, result in by_step.items()} == {1: 1, 2: 2}
    first, second = (result.metrics["fid"] for result in by_step.values())
    assert first != second


def test_guidance_and_the_width_of_the_ema_are_fields_too(run, scored):
    _, by_guidance = command.run(options(run, "guidance=0,2"), "")
    assert {value: result.guidance for value, result in by_guidance.items()} == {0: 0, 2: 2}
    _, by_width = command.run(options(run, "sigma_rel=0.1,0.2"), "")
    assert list(by_width) == [0.1, 0.2]
    assert all(result.config == "rin/digits" and result.step == 2 for result in by_width.values())
    first, second = scored[-2:]
    assert first.is_relative_to(run / "ema" / "step2_sigma0.1")
    assert second.is_relative_to(run / "ema" / "step2_sigma0.2")


@pytest.mark.parametrize(
    "vary, changes, message",
    [
        ("stps=10", {}, "--vary is 'stps': did you mean steps"),
        ("steps=a,b", {}, "--vary is 'steps=a,b': give values with commas"),
        ("steps=2,4", dict(steps=3), "--vary=steps=2,4: leave out --steps"),
        ("steps=2,4", dict(out="there"), "--vary=steps=2,4: leave out --out"),
        ("steps=2,0", {}, "steps is 0"),
        ("step=1,7", {}, "has no checkpoint of step 7, but of 1, 2"),
    ],
)
def test_mistakes_are_named_before_any_sampling(run, scored, vary, changes, message):
    with pytest.raises(UserError, match=message):
        command.run(options(run, vary, **changes), "")
    assert not scored
