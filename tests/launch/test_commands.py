"""Commands say what is wrong in one line, and scripts can trust their exit status."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).parents[2]
TRAIN = ["launch.train", *tiny.flags()]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*TRAIN, "--config.trian.steps=1"], "unknown config field 'trian': did you mean 'train'?"),
        ([*TRAIN, "--config.train.stps=1"], "unknown config field 'stps': did you mean 'steps'?"),
        ([*TRAIN, "--config.train.steps=0"], "train.steps is 0: it must be at least 1"),
        ([*TRAIN, "--config.train.steps=many"], "invalid literal for int()"),
        ([*TRAIN, "--config=configs/rin/digit.py"], "there is no file 'configs/rin/digit.py'"),
        ([*TRAIN, "--config=configs/rin/digits.py:2h"], "this file has no variants"),
        (
            [*TRAIN, "--config.objective.schedule=sigmoid"],
            "--config.objective.schedule is a group of fields: set one",
        ),
        (["launch.train", "--config=configs/rin/cifar10.py:3h"], "'3h' is no variant: choose"),
        ([*TRAIN, "more"], "unexpected argument 'more'"),
        (["launch.sample"], "no run (no config.json)"),
        (["launch.sample", "--nmu=3"], "Unknown command line flag 'nmu'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_line_and_status_2(tmp_path, arguments, message):
    result = run(*arguments, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_help_teaches_by_example():
    result = run("launch.sample", "--help")
    assert result.returncode == 0
    assert "python -m launch.sample --workdir=runs/digits --num=100" in result.stdout
    assert "python -m launch.sample --pretrained --show=sweep" in result.stdout
    for flag in ("--guidance", "--show", "--mask", "--frames"):
        assert flag in result.stdout


COMMANDS = [
    path.stem
    for path in sorted((ROOT / "launch").glob("[a-z]*.py"))
    if "__main__" in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_and_refuses(name):
    shown = run(f"launch.{name}", "--help")
    assert shown.returncode == 0
    assert f"python -m launch.{name}" in shown.stdout
    refused = run(f"launch.{name}", "--no_such_flag=1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1
