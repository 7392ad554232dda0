"""Runs that began before a field existed go on as if they had it, on the curve of the code then.

tests/launch/old_runs holds runs of three steps by the code of 85 commits before, and in whole.jsonl
what that code made of six.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tiny

from configs.base import base, diffussm, rin
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.exporting import export, of_run
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.start import find_start
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.workdir import read_workdir
from launch.common.report import write_report
from launch.pretrained import unpack_pretrained

RUNS = Path(__file__).parent / "old_runs"
REQUEST = dict(num=2, labels="", seed=0, batch_size=8)


@pytest.fixture(params=["rin", "diffussm"])
def old(request, tmp_path) -> Path:
    """A run directory of its network."""
    with tarfile.open(RUNS / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / request.param


def same_command(workdir: Path, steps: int):
    """The config that the command of an old run makes today."""
    saved = json.loads((workdir / "config.json").read_text())
    config = {"rin": tiny.config, "diffussm": tiny.diffussm}[saved["model"]["name"]]()
    for section, fields in saved.items():
        if isinstance(fields, dict):
            config[section].update(fields)
    config.ema_decay = saved["ema_decay"]
    config.train.steps = steps
    return config


def test_it_continues_on_the_curve_of_its_time(old):
    assert not {"unroll", "attention"} & json.loads((old / "config.json").read_text()).keys()
    assert [record["step"] for record in tiny.curve(old)] == [1, 2, 3]
    begun = tiny.curve(old)
    assert train(same_command(old, steps=6), old).finished
    assert tiny.curve(old)[:3] == begun
    then = [json.loads(line)["loss"] for line in (old / "whole.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(tiny.losses(old), then, rtol=1e-5)


def test_it_is_sampled_exported_and_reported(old, tmp_path):
    config = read_workdir(old)
    sample(config, old, tmp_path / "samples", REQUEST)
    export(of_run(old), tmp_path / "export")
    sample(read_workdir(tmp_path / "export"), tmp_path / "export", tmp_path / "more", REQUEST)
    assert find_start(tmp_path / "new", same_command(old, 6), tmp_path / "export", 0).step == 0
    assert write_report(old).exists()


def test_it_may_continue_by_a_config_that_is_computed_otherwise(old):
    """As configs/rin/cifar10.py has since set model.unroll."""
    config = same_command(old, steps=4)
    config.model.unroll = True
    assert train(config, old).finished
    assert read_workdir(old).model.unroll


def test_the_run_of_the_package_continues(tmp_path):
    workdir = unpack_pretrained(tmp_path / "pretrained")
    config = read_workdir(workdir)
    begun = tiny.curve(workdir)
    config.train.update(steps=4001, log_every=1, grid_every=0)
    assert train(config, workdir).finished
    assert tiny.curve(workdir)[: len(begun)] == begun
    assert tiny.losses(workdir)[-1] < 2 * np.mean(tiny.losses(workdir)[-10:-1])


@pytest.mark.parametrize("model", [rin(), diffussm()], ids=["rin", "diffussm"])
def test_every_field_since_the_first_version_has_its_default(model, tmp_path):
    """All that a config must say is what `schemas.CONFIG` lists; the rest is filled in."""
    whole = json.loads(base(model).to_json())
    later = {"autoencoder", "posthoc_ema", "evaluation", "mesh"}
    first = {key: value for key, value in whole.items() if key not in later}
    first["model"] = {k: v for k, v in whole["model"].items() if k not in ("unroll", "attention")}
    first["data"] = {key: whole["data"][key] for key in ("name", "path", "flip")}
    (tmp_path / "config.json").write_text(json.dumps(first))
    assert json.loads(read_workdir(tmp_path).to_json()) == whole


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": {"stepz": 3}}, "has train.stepz, which this version does not know"),
        ({"later": {"field": 3}}, "has later.field, which this version does not know"),
        ({"mesh": {"fsdp": "two"}}, r"is damaged \(.*fsdp"),
        ({"mesh": 3}, r"is damaged \(.*mesh"),
        ({"train": {"log_every": [1]}}, r"is damaged \(.*log_every"),
        ({"model": {"latent_dim": None}}, r"is damaged \(.*latent_dim"),
        ({"model": {"process_layers": "1"}}, r"is damaged \(.*process_layers"),
        ({"sampling": {"guidance_interval": {}}}, r"is damaged \(.*guidance_interval"),
    ],
)
def test_what_no_version_wrote_is_one_line(tmp_path, change, message):
    saved = json.loads(tiny.config().to_json())
    for section, fields in change.items():
        saved[section] = saved.get(section, {}) | fields if isinstance(fields, dict) else fields
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=message) as refused:
        read_workdir(tmp_path)
    assert len(str(refused.value).splitlines()) == 1
