"""Before a command is imported, which takes seconds: what ends it in one line from then on.

That is Ctrl-C, an old Python, and a module that is not installed; the line says how to get it. Any
Python of the machine runs this file: nothing here is newer than Python 3.8, or installed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

BASE = ("einops", "etils", "flax", "jax", "numpy", "safetensors")
# What the extras `train` and `data` of pyproject.toml bring. What is wanted more rarely, such as
# PyTorch for `convert`, is asked for where it is used.
EXTRAS = (
    "PIL",
    "absl",
    "array_record",
    "clu",
    "google",
    "grain",
    "jinja2",
    "matplotlib",
    "ml_collections",
    "optax",
    "orbax",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow_datasets",
    "tqdm",
)
_ROOT = Path(__file__).parents[2]
_ACTIVATE = "activate the environment, source .venv/bin/activate, or make it: bash launch/env.sh"


def begin() -> None:
    """Have Ctrl-C and a missing module end the process in one line; refuse an old Python."""
    if sys.version_info < (3, 11):  # noqa: UP036  # it may be any that the user has
        version = ".".join(map(str, sys.version_info[:2]))
        _fail(f"this is Python {version}, and 3.11 or newer is needed: {_ACTIVATE}")
    from launch.common.interrupts import end_while_starting  # not for an old Python

    end_while_starting()
    sys.excepthook = _explain


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for a missing module of ours, and the traceback of any other error."""
    name = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    if (module := name.partition(".")[0]) not in (*BASE, *EXTRAS):
        sys.__excepthook__(kind, error, trace)
    elif all(map(find_spec, BASE)):
        editable = "-e " if (_ROOT / "pyproject.toml").exists() else ""
        _fail(f"{module} is not installed: pip install {editable}'.[train,data]' in the checkout")
    else:
        _fail(f"{sys.executable} has no {module}: {_ACTIVATE}")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
