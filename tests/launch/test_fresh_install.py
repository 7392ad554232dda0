"""Installs in fresh environments of each Python that is supported, used in another directory.

They need a package index, and take minutes: most of that is pip's.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT, copy_checkout

PYTHONS = ("python3.11", "python3.12")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=without | environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )


def succeed(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Return what a command prints; it must succeed."""
    result = run(*command, cwd=cwd, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(params=PYTHONS)
def python(request, tmp_path) -> str:
    """A Python of this machine that can make environments and has an index to install from."""
    found = shutil.which(request.param)
    if not found or run(found, "-c", "import venv, ensurepip", cwd=tmp_path).returncode:
        pytest.skip(f"no {request.param} with venv on PATH")
    probe = [found, "-m", "pip", "download", "--quiet", "--no-deps", "einops"]
    if run(*probe, f"--dest={tmp_path / 'probe'}", cwd=tmp_path).returncode:
        pytest.skip("no package index to install from")
    return found


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the checkout."""
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A directory with packages of another project, whose names are ours in a checkout."""
    for name in ("configs", "launch", "tests"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "__init__.py").write_text("OWNER = 'another project'\n")
    return tmp_path / "elsewhere"


def check_commands(script: Path, cwd: Path) -> None:
    """Train for two steps, and look at what is there, as a user in another directory."""
    tiny = ("--config.train.steps=2", "--config.train.batch_size=8", "--config.train.grid_every=0")
    trained = succeed(script, "train", "--config", "rin/digits", *tiny, "--workdir=run", cwd=cwd)
    assert "rin-diffussm sample --workdir=run --num=64" in trained
    assert "launch." not in trained
    page = (cwd / "run" / "report.html").read_text()
    assert "rin-diffussm sample" in page and "launch." not in page
    succeed(script, "sample", "--pretrained", "--num=2", "--steps=2", cwd=cwd)
    assert "RIN" in succeed(script, "tables", "--path=run", cwd=cwd)


@pytest.mark.slow
def test_the_base_runs_networks_and_the_extras_bring_the_commands(
    python, source, elsewhere, tmp_path
):
    succeed(python, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    own, script = tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "bin" / "rin-diffussm"
    install = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    succeed(*install, ".", cwd=source)
    section = (ROOT / "README.md").read_text().partition("## In your own programs")[2]
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    succeed(own, "-c", f"import configs\n{code}\nassert configs.OWNER", cwd=elsewhere)
    assert "\n    train " in succeed(script, "--help", cwd=elsewhere)
    for command in ("train", "prepare", "report"):
        refused = run(script, command, "--help", cwd=elsewhere)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert re.fullmatch(
            r"error: \w+ is not installed: pip install '\.\[train,data\]' in the checkout\n",
            refused.stderr,
        )
    succeed(*install, ".[train,data]", cwd=source)
    check_commands(script, elsewhere)


@pytest.mark.slow
def test_the_scripts_make_an_environment_and_complete_it(python, source, elsewhere):
    shown = succeed("bash", "launch/env.sh", cwd=source, PYTHON=python)
    assert shown.endswith("\nActivate it: source .venv/bin/activate\n")
    assert succeed("bash", "launch/env.sh", cwd=source) == shown.splitlines(keepends=True)[-1]
    has = "import importlib.util as u; print(*(bool(u.find_spec(n)) for n in ('grain', 'av')))"
    assert succeed(".venv/bin/python", "-c", has, cwd=source) == "True False\n"
    succeed("bash", "launch/env.sh", cwd=source, extras="video")
    assert succeed(".venv/bin/python", "-c", has, cwd=source) == "True True\n"
    check_commands(source / ".venv" / "bin" / "rin-diffussm", elsewhere)
    described = ("-m", "launch.describe", "--config=configs/rin/digits.py")
    assert "0.16 M" in succeed(".venv/bin/python", *described, cwd=source)
