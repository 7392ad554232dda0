"""The wheel, and its console script in any directory, whatever that directory holds."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from checkout import PACKAGES, ROOT, copy_checkout

SCRIPT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["rin-diffussm"]
WITHIN = "rin_diffussm"  # what the wheel has configs and launch in


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of the wheel, which is built without the network from a copy of the source."""
    source = copy_checkout(tmp_path_factory.mktemp("source") / "checkout")
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(source / "dist")]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    target = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    module, function = SCRIPT.split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_wheel_takes_no_name_that_others_use_and_leaves_nothing_out(installed):
    tops = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"rin_jax", "diffussm_jax", "diffusion_jax", WITHIN}
    for package in PACKAGES:
        place = installed / ("" if package in tops else WITHIN)
        only_here = ROOT / "launch" / "launch"  # is met in a checkout
        modules = [file for file in (ROOT / package).rglob("*.py") if file.parent != only_here]
        data = [
            file
            for suffix in ("py.typed", "*.toml", "*.j2", "*.csv", "digits/**/*")
            for file in (ROOT / package).rglob(suffix)
            if file.is_file() and "__pycache__" not in file.parts
        ]
        for file in modules + data:
            copied = place / file.relative_to(ROOT)
            assert copied.read_bytes() == file.read_bytes()


def test_every_command_is_listed_and_a_wrong_one_refused(installed, tmp_path):
    listed = run(installed, tmp_path, "--help").stdout
    for path in (ROOT / "launch").glob("[a-z]*.py"):
        assert f"\n    {path.stem} " in listed
    refused = run(installed, tmp_path, "tarin", "--workdir=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: no command 'tarin': did you mean train?\n"


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A directory with packages of another project, whose names are ours in a checkout."""
    for name in ("configs", "launch", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    return tmp_path


def test_it_works_beside_packages_of_the_same_names(installed, foreign):
    described = run(installed, foreign, "describe", "--config=rin/digits")
    assert described.returncode == 0, described.stderr
    assert "0.16 M" in described.stdout
    module = [sys.executable, "-m", f"{WITHIN}.launch", "describe", "--config=rin/digits"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    again = subprocess.run(module, cwd=foreign, env=environment, capture_output=True, text=True)
    assert again.stdout == described.stdout, again.stderr
    tables = run(installed, foreign, "tables", "--path=.")  # reads configs.published
    assert tables.returncode == 0 and "RIN" in tables.stdout, tables.stderr
    refused = run(installed, foreign, "train", "--config=rin/digit", "--workdir=x")
    assert "no such name: did you mean rin/digits" in refused.stderr
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_a_checkout_works_beside_packages_of_the_same_names(foreign):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    module = [sys.executable, "-P", "-m", "launch.describe", "--config=configs/rin/digits.py"]
    (foreign / "launch" / "__init__.py").unlink()  # `python -m launch` itself would be theirs
    described = subprocess.run(module, cwd=foreign, env=environment, capture_output=True, text=True)
    assert "0.16 M" in described.stdout, described.stderr


def test_a_config_of_ones_own_may_begin_as_a_copy_and_import_its_neighbours(installed, foreign):
    (foreign / "configs" / "size.py").write_text("STEPS = 7\n")
    text = (ROOT / "configs" / "rin" / "digits.py").read_text()
    (foreign / "mine.py").write_text(f"{text}\nfrom configs.size import STEPS\nassert STEPS == 7\n")
    described = run(installed, foreign, "describe", "--config=mine.py")
    assert "0.16 M" in described.stdout, described.stderr


@pytest.mark.parametrize("command", ["train", "export"])
def test_commands_are_named_as_they_were_called(installed, tmp_path, command):
    shown = run(installed, tmp_path, command, "--help").stdout
    assert f"    rin-diffussm {command} --" in shown
    assert "launch." not in shown
    refused = run(installed, tmp_path, "sample", "--workdir=")
    assert refused.stderr == "error: --workdir is empty: give a path\n"
    theirs = tmp_path / "launch.export"  # a user's path is printed as it is
    theirs.mkdir()
    refused = run(installed, tmp_path, "sample", f"--init_from={theirs}")
    assert refused.stderr.startswith(f"error: {theirs} holds no exported weights")
    assert refused.stderr.endswith("give a folder that rin-diffussm export wrote\n")
