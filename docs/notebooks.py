r"""Runs notebooks and stores their outputs in them, as GitHub shows them.

    python docs/notebooks.py launch/notebooks/*.ipynb

Each one runs this checkout's code, in an empty folder that is removed afterwards: it finds no
earlier run, and leaves none. No times and versions are stored, and successive lines of a cell are
one output. A notebook that fails stays as it was.

table_row wants an accelerator for hours, so its stored outputs are of a rehearsal:

    DATA=$PWD/1000.npz INCEPTION=$PWD/inception.npz NUM=64 \
        python docs/notebooks.py launch/notebooks/table_row.ipynb

with the first 1,000 images and labels of CIFAR-10 in DATA.
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
REHEARSAL = {  # what changes in the config of table_row, unless CHANGES says something else
    "model.geometry.patch_size": 4,
    "model.num_latents": 32,
    "model.process_layers": (1, 1),
    "model.latent_dim": 128,
    "model.latent_heads": 4,
    "model.interface_dim": 64,
    "model.read_write_heads": 4,
    "optimizer.warmup_steps": 50,
    "optimizer.decay": "constant",
    "ema_decay": 0.98,
    "train.steps": 300,
    "train.batch_size": 32,
    "train.log_every": 30,
    "train.grid_every": 0,
    "sampling.steps": 100,
}


def tidy(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs with successive pieces of a stream as one, and pictures in one format."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
                continue
        elif "image/png" in output.get("data", {}):
            output.data.pop("image/jpeg", None)
        kept.append(output)
    return kept


def execute(path: Path) -> None:
    """Run a notebook, and replace its file by what came of it.

    Raises:
      nbclient.exceptions.CellExecutionError: with the cell that failed, and why.
    """
    notebook = nbformat.read(path, as_version=4)
    kept = notebook.metadata.copy()  # the kernel adds its version
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
    notebook.metadata = kept
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    if importlib.util.find_spec("ipywidgets"):
        sys.exit("ipywidgets is installed, whose bars GitHub does not show: uninstall it first")
    os.environ["PYTHONPATH"] = str(ROOT)
    for path in map(Path, sys.argv[1:]):
        if path.stem == "table_row":
            os.environ.setdefault("CHANGES", json.dumps(REHEARSAL))
        execute(path)
        print(path)
