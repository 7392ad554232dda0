"""Every field of sampling is an option of the commands that sample, and they do what it says."""

import dataclasses
import json

import commands
import pytest

from diffusion_jax.sampling.samplers import Sampling

OF_SAMPLING = {field.name for field in dataclasses.fields(Sampling)} | {
    "schedule_start",
    "schedule_end",
    "schedule_tau",
    "carry",
}


@pytest.fixture(scope="module")
def server():
    with commands.serving() as server:
        yield server


@pytest.mark.parametrize(
    "command", ["sample", "inspect", "diagnose", "evaluate", "evaluate_videos", "sweep"]
)
def test_every_field_of_sampling_is_an_option(server, command):
    shown = server.run(f"launch.{command}", "--help").stdout
    for name in OF_SAMPLING:
        assert f"--{name}:" in shown or f"--[no]{name}:" in shown, name


def test_options_change_the_sampling_of_a_run(server, tmp_path):
    request = ("launch.sample", "--pretrained", "--num=4", "--steps=2", "--sampler=heun")
    changes = (
        "--guidance=0.5",
        "--guidance_interval=0.25,0.75",
        "--guided_channels=1",
        "--time_shift=0.5",
        "--carry_decay=0.25",
        "--spacing=karras",
        "--schedule=sigmoid",
        "--schedule_start=-3",
        "--schedule_end=3",
        "--schedule_tau=0.9",
    )
    found = server.run(*request, *changes, cwd=tmp_path, timeout=300)
    assert found.code == 0, found.stderr
    # The same without the changes goes to another folder.
    assert server.run(*request, cwd=tmp_path, timeout=300).code == 0
    records = {
        record["spacing"]: record
        for path in (tmp_path / "runs/pretrained/samples").glob("*/request.json")
        for record in [json.loads(path.read_text())["sampling"]]
    }
    assert len(records) == 2
    changed, plain = records["karras"], records["even"]
    expected = dict(
        guidance=0.5,
        guidance_interval=[0.25, 0.75],
        guided_channels=1,
        time_shift=0.5,
        carry_decay=0.25,
        spacing="karras",
        schedule=plain["schedule"] | dict(name="sigmoid", start=-3, end=3, tau=0.9),
    )
    assert changed == plain | expected


def test_requests_that_differ_in_one_unnamed_field_have_folders_of_their_own(server, tmp_path):
    request = ("launch.sample", "--pretrained", "--num=1", "--steps=1")
    for change in ("--time_shift=0.5", "--time_shift=0", "--guided_channels=1"):
        found = server.run(*request, change, cwd=tmp_path, timeout=300)
        assert found.code == 0, found.stderr
    assert len(list((tmp_path / "runs/pretrained/samples").iterdir())) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        (["--nocarry", "--carry_decay=0.5"], "--nocarry stands for --carry_decay=1"),
        (["--guidance_interval=0.7,0.2"], "guidance_interval is (0.7, 0.2)"),
        (["--guided_channels=-1"], "--guided_channels is -1: it must be at least 0"),
        (["--schedule=sigmod"], "--schedule is 'sigmod': did you mean sigmoid"),
        (["--schedule=linear_betas"], "discrete schedule must be the same in both"),
        (["--sampler=ddmi"], "--sampler is 'ddmi': did you mean ddpm or ddim"),
        (["--show=sweep", "--mask=left"], "--show draws from noise alone: leave out --mask"),
        (["--show=sweep", "--num=0"], "--num is 0: it must be at least 1"),
        (["--extend=0"], "--extend is 0: it must be at least 1"),
    ],
)
def test_mistakes_are_named(server, tmp_path, options, message):
    found = server.run("launch.sample", "--pretrained", *options, cwd=tmp_path, timeout=120)
    assert found.code == 2
    assert message in found.stderr
