"""The report of a run beside what this checkout knows: config files and the papers' results."""

import importlib
import re
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.reporting import report
from launch.tables import compare


def write_report(workdir: Path) -> Path:
    """Write the page of the run in `workdir`; see `diffusion_jax.reporting.report.write_report`."""
    return report.write_report(workdir, compare, file_config)


def file_config(name: str) -> tuple[str, ConfigDict] | None:
    """Return the file in configs that 'rin/cifar10:2h' names, with the variants, and its config.

    None where there is no such file or variant: a run may have been started from any module, or by
    an older version of this code.
    """
    file, colon, variants = name.partition(":")
    if not re.fullmatch(r"\w+/\w+", file):
        return None
    try:
        module = importlib.import_module("configs." + file.replace("/", "."))
        config = module.get_config(*([variants] if colon else []))
    except (ImportError, AttributeError, TypeError, UserError):
        return None
    return f"configs/{file}.py{colon}{variants}", config
