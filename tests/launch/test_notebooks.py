"""The notebooks run from top to bottom, on tiny networks, and are kept without their outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tiny
from inception_recipe import inception_tensors

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "launch" / "notebooks").glob("*.ipynb"))
# In a process of its own: warnings of Jupyter's packages are no errors of ours.
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
"""


@pytest.fixture
def variables(request, tmp_path) -> dict[str, str]:
    """What the notebook takes from the environment."""
    changes = (tiny.DIFFUSSM if request.param == "diffussm" else tiny.RIN) | tiny.SHORT
    changes |= {"train.grid_every": 3, "train.grid_size": 10}
    given = {"PYTHONPATH": str(ROOT)}
    if request.param == "table_row":
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (16, 8, 8, 3), np.uint8), np.arange(16) % 10
        np.savez(tmp_path / "data.npz", images=images, labels=labels.astype(np.int32))
        np.savez(tmp_path / "inception.npz", **inception_tensors())
        changes |= {"model.geometry.height": 8, "model.geometry.width": 8, "train.grid_every": 0}
        given |= {"DATA": "data.npz", "INCEPTION": "inception.npz", "NUM": "8"}
    return given | {"CHANGES": json.dumps(changes)}


def marked(path: Path):
    """rin's cells are diffussm's, with another config; table_row compiles Inception."""
    slow = [pytest.mark.slow] if path.stem in ("rin", "table_row") else []
    return pytest.param(path, path.stem, id=path.stem, marks=slow)


@pytest.mark.parametrize("path, variables", [*map(marked, NOTEBOOKS)], indirect=["variables"])
def test_a_notebook_runs_from_top_to_bottom(path, variables, tmp_path):
    command = [sys.executable, "-c", EXECUTE, str(path)]
    environment = {**os.environ, **variables}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.id.startswith(path.stem.replace("_", "-"))
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)
