"""The notebooks run from top to bottom, on tiny networks, and are kept with outputs to look at."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tiny
from inception_recipe import inception_tensors
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "launch" / "notebooks").glob("*.ipynb"))
# Folders and addresses of the machine that stored the outputs, and codes that colour a terminal.
OF_A_MACHINE = r"/(tmp|home|root|work|Users|usr|opt|var|content)/|\d+\.\d+\.\d+\.\d+|\x1b|\r"
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def variables(request, tmp_path) -> dict[str, str]:
    """What the notebook takes from the environment."""
    changes = (tiny.DIFFUSSM if request.param == "diffussm" else tiny.RIN) | tiny.SHORT
    changes |= {"train.grid_every": 3, "train.grid_size": 10}
    given = {}
    if request.param == "table_row":
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (16, 8, 8, 3), np.uint8), np.arange(16) % 10
        data, inception = tmp_path / "data.npz", tmp_path / "inception.npz"
        np.savez(data, images=images, labels=labels.astype(np.int32))
        np.savez(inception, **inception_tensors())
        changes |= {"model.geometry.height": 8, "model.geometry.width": 8, "train.grid_every": 0}
        given |= {"DATA": str(data), "INCEPTION": str(inception), "NUM": "8"}
    return given | {"CHANGES": json.dumps(changes)}


def marked(path: Path):
    """rin's cells are diffussm's, with another config; table_row compiles Inception."""
    slow = [pytest.mark.slow] if path.stem in ("rin", "table_row") else []
    return pytest.param(path, path.stem, id=path.stem, marks=slow)


@pytest.mark.parametrize("path, variables", [*map(marked, NOTEBOOKS)], indirect=["variables"])
def test_a_notebook_runs_from_top_to_bottom(path, variables, tmp_path):
    copy = Path(shutil.copy(path, tmp_path))
    # In a process of its own: warnings of Jupyter's packages are no errors of ours.
    command = [sys.executable, ROOT / "docs" / "notebooks.py", copy]
    ran = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    stored = [bool(cell.outputs) for cell in code_cells(path)]
    assert [bool(cell.outputs) for cell in code_cells(copy)] == stored


@each_notebook
def test_stored_outputs_are_of_one_run_of_all_cells(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert any(cell.outputs for cell in cells)


@each_notebook
def test_stored_outputs_are_small_and_what_github_shows(path):
    assert path.stat().st_size < 2**20
    assert nbformat.read(path, as_version=4).metadata.keys() == {"kernelspec", "language_info"}
    for output in (output for cell in code_cells(path) for output in cell.outputs):
        if output.output_type == "stream":
            lines = output.text.splitlines()
            assert len(lines) <= 100
            # No warnings, but progress of what takes more than half a minute.
            assert output.name == "stdout" or all(line.endswith(" left") for line in lines), lines
        else:
            assert output.output_type in ("display_data", "execute_result"), output
            assert output.data.keys() <= {"text/plain", "text/markdown", "image/png"}


@each_notebook
def test_stored_outputs_say_nothing_of_the_machine(path):
    host = os.uname().nodename
    for output in (output for cell in code_cells(path) for output in cell.outputs):
        for text in (output.get("text", ""), *output.get("data", {}).values()):
            if text is not output.get("data", {}).get("image/png"):
                assert not re.search(OF_A_MACHINE, text), text
                assert host not in text


@each_notebook
def test_stored_pictures_show_something(path):
    pictures = [
        output.data["image/png"]
        for cell in code_cells(path)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    for picture in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))
        assert min(pixels.shape) > 50
        assert pixels.std() > 10


def test_one_cell_installs_the_same_in_every_notebook():
    cells = {path.stem: code_cells(path) for path in NOTEBOOKS}
    assert len({found[0].source for found in cells.values()}) == 1
    for found in cells.values():
        assert not any(re.search(r"pip |git clone", cell.source) for cell in found[1:])


RUN_SETUP = """
import glob, importlib.util, os, sys
from IPython.core.interactiveshell import InteractiveShell

installed, gpus, source, folder = eval(sys.argv[1]), eval(sys.argv[2]), *sys.argv[3:]
glob.glob = lambda pattern: gpus
if not installed:
    importlib.util.find_spec = lambda name: None
shell = InteractiveShell.instance()
shell.register_magic_function(lambda line: print("pip", line), "line", "pip")
shell.run_cell(source).raise_error()
print("in", os.path.relpath(os.getcwd(), folder))
"""


def run_setup(
    folder: Path, repo: Path | str = "", installed=False, gpus=(), **variables: str
) -> str:
    """Run the cell that installs in `folder`, with a pip that only prints what it should do."""
    source = code_cells(NOTEBOOKS[0])[0].source.replace('REPO = ""', f'REPO = "{repo}"')
    assert str(repo) in source
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "COLAB_TPU"))}
    environment |= {"PYTHONPATH": "", "IPYTHONDIR": str(folder / ".ipython")} | variables
    command = [
        sys.executable,
        "-P",
        "-c",
        RUN_SETUP,
        repr(installed),
        repr([*gpus]),
        source,
        folder,
    ]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return ran.stdout if ran.returncode == 0 else ran.stdout + ran.stderr


def test_where_the_packages_are_nothing_is_installed(tmp_path):
    assert run_setup(tmp_path, installed=True, PYTHONPATH=str(ROOT), TPU_NAME="tpu") == "in .\n"
    notebooks = tmp_path / "launch" / "notebooks"  # as Jupyter starts in a checkout
    notebooks.mkdir(parents=True)
    for name in ("diffusion_jax", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run_setup(notebooks, installed=True) == "in ../..\n"


@pytest.mark.parametrize(
    "gpus, variables, extra",
    [
        (["/dev/nvidia0"], {}, "jax[cuda12]"),
        ([], {"TPU_ACCELERATOR_TYPE": "v5e-1"}, "jax[tpu]"),
        ([], {}, "jax"),
    ],
    ids=["gpu", "tpu", "cpu"],
)
def test_elsewhere_what_the_runtime_needs_is_installed(tmp_path, gpus, variables, extra):
    origin, folder = tmp_path / "origin", tmp_path / "colab"
    (origin / "diffusion_jax").mkdir(parents=True)
    (origin / "diffusion_jax" / "__init__.py").touch()
    folder.mkdir()
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "-qm", "First"]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    printed = f'pip install --quiet -e ".[train,data]" {extra}\nin repo\n'
    assert run_setup(folder, origin, gpus=gpus, **variables) == printed
    assert run_setup(folder, origin, gpus=gpus, **variables) == printed  # the kernel has restarted


def test_without_an_address_it_is_asked_for(tmp_path):
    assert "give REPO above" in run_setup(tmp_path)
