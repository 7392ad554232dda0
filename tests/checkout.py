"""A copy of the checkout to build and install from, since that writes into it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("rin_jax", "diffussm_jax", "diffusion_jax", "configs", "launch")


def copy_checkout(target: Path) -> Path:
    """Copy what a wheel is built from, and the scripts, into a new folder; return it."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target
