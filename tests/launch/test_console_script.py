"""The console script, from any directory, of packages that were copied as an install does."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("rin_jax", "diffussm_jax", "diffusion_jax", "configs", "launch")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what a wheel holds: the modules and the declared data files."""
    target = tmp_path_factory.mktemp("site-packages")
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        patterns = ["**/*.py", *data.get(package, [])]
        for file in {file for pattern in patterns for file in (ROOT / package).glob(pattern)}:
            if file.is_file():
                place = target / file.relative_to(ROOT)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
    return target


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    module, function = PROJECT["project"]["scripts"]["rin-diffussm"].split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_every_command_is_listed_and_a_wrong_one_refused(installed, tmp_path):
    listed = run(installed, tmp_path, "--help").stdout
    for path in (ROOT / "launch").glob("[a-z]*.py"):
        if 'if __name__ == "__main__":' in path.read_text():
            assert f"\n    {path.stem} " in listed
    refused = run(installed, tmp_path, "tarin", "--workdir=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: no command 'tarin': did you mean train?\n"


def test_it_works_anywhere_beside_a_folder_of_the_same_name_as_ours(installed, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    described = run(installed, tmp_path, "describe", "--config=rin/digits")
    assert described.returncode == 0, described.stderr
    assert "0.16 M" in described.stdout
    module = [sys.executable, "-m", "launch.describe", "--config=configs/rin/digits.py"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    again = subprocess.run(module, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.stdout == described.stdout, again.stderr
    refused = run(installed, tmp_path, "train", "--config=rin/digit", "--workdir=x")
    assert "no such name: did you mean rin/digits" in refused.stderr
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
