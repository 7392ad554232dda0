"""Commands started in the wrong way, or without what they need, say in one line what to do."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import commands
import pytest

from launch.common import starting

ROOT = Path(__file__).parents[2]
SITE = Path(pytest.__file__).parents[1]
COMMANDS = sorted(path.stem for path in (ROOT / "launch").glob("[a-z]*.py"))
SCRIPTS = sorted((ROOT / "launch").rglob("*.sh"))


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def check_refused(result: subprocess.CompletedProcess, message: str) -> None:
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert re.fullmatch(rf"error: {message}\n", result.stderr), result.stderr


@pytest.mark.parametrize("module", ["launch", "launch.train", "launch.prepare"])
def test_outside_of_the_environment_it_is_said_how_to_activate_it(module):
    """Without site-packages a Python is as bare as the system's."""
    refused = run(sys.executable, "-S", "-m", module, "train", PYTHONPATH="")
    check_refused(
        refused,
        r"\S+ has no (absl|etils): activate the environment, source .venv/bin/activate, or make "
        "it: bash launch/env.sh",
    )


@pytest.mark.parametrize(
    "command, module",
    [("train", "ml_collections"), ("train", "grain"), ("prepare", "tensorflow_datasets")],
)
def test_a_missing_extra_is_named(tmp_path, command, module):
    for path in SITE.iterdir():
        if path.name != module and path.suffix != ".pth":
            (tmp_path / path.name).symlink_to(path)
    refused = run(sys.executable, "-S", "-m", f"launch.{command}", PYTHONPATH=str(tmp_path))
    check_refused(
        refused,
        rf"{module} is not installed: pip install -e '\.\[train,data\]' in the checkout",
    )


def test_every_module_of_the_base_and_of_the_commands_is_known():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    modules: dict[str, set[str]] = {}  # of each distribution
    for module, distributions in importlib.metadata.packages_distributions().items():
        for name in distributions:
            modules.setdefault(canonical(name), set()).add(module)
    for needed, wanted in (
        (starting.BASE, project["dependencies"]),
        (starting.EXTRAS, extras["train"] + extras["data"]),
    ):
        brought = [modules[canonical(re.match(r"[\w-]+", each)[0])] for each in wanted]
        assert all(each & {*starting.BASE, *needed} for each in brought)
        assert set(needed) <= set.union(*brought)


def canonical(name: str) -> str:
    """Return the name of a distribution as they are compared."""
    return name.lower().replace("_", "-")


def test_another_missing_module_has_its_traceback(tmp_path):
    (tmp_path / "mine.py").write_text("import no_such_module\n")
    code = "import sys; sys.argv[0] = '-m'; import launch, mine"
    failed = run(sys.executable, "-c", code, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_run_as_a_file_says_how_to_run_it(name):
    refused = run(sys.executable, f"launch/{name}.py", "--help")
    check_refused(refused, rf"a command is run as a module: python -m launch\.{name} \.\.\.")


@pytest.fixture(scope="module")
def server():
    with commands.serving() as served:
        yield served


FIELD = "--config.train.steps=0"


@pytest.mark.parametrize(
    "given",
    [
        ["--config=rin/digits", "--workdir=x", FIELD],
        ["--config", "rin/digits", "--workdir", "x", "--config.train.steps", "0"],
        ["--workdir", "x", FIELD, "--config", "configs/rin/digits.py"],
        [FIELD, "-config=rin/digits", "--workdir=x"],
    ],
    ids=" ".join,
)
def test_options_are_given_in_one_word_or_two_and_in_any_order(server, tmp_path, given):
    refused = server.run("launch.train", *given, cwd=tmp_path)
    assert refused.stderr == "error: train.steps is 0: it must be at least 1\n"
    assert (refused.code, refused.stdout) == (2, "")


def test_a_config_without_a_name_is_missing(server, tmp_path):
    refused = server.run("launch.train", "--workdir=x", FIELD, "--config", cwd=tmp_path)
    assert refused.stderr == "error: Missing value for flag --config\n"


def test_help_lists_the_config(server):
    shown = server.run("launch.train", "--help").stdout
    assert "\n  --config: A name, as rin/digits, or a file." in shown
    assert "--config:" not in server.run("launch.sample", "--help").stdout


@pytest.mark.parametrize(
    "script",
    [path.relative_to(ROOT) for path in SCRIPTS if path.name != "common.sh"],
    ids=lambda path: path.stem,
)
def test_a_script_explains_itself_and_does_nothing_else(tmp_path, script):
    for path in (*SCRIPTS, ROOT / "pyproject.toml"):
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    before = sorted(tmp_path.rglob("*"))
    shown = run("bash", str(tmp_path / script), "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"\n  bash {script}" in shown.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_the_quickstart_trains_into_no_folder_named_as_an_option(tmp_path):
    (tmp_path / "launch").mkdir()
    for name in ("quickstart.sh", "env.sh"):
        shutil.copy(ROOT / "launch" / name, tmp_path / "launch")
    for wrong in (["--workdir=runs/d"], ["runs/d", "more"]):
        refused = run("bash", "launch/quickstart.sh", *wrong, cwd=tmp_path)
        check_refused(
            refused, f"unexpected argument '{wrong[-1]}': give a run directory, or --help"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["launch"]
