"""The report of a run beside what this checkout knows: config files and the papers' results."""

import re
from pathlib import Path

from ml_collections import ConfigDict

from configs.catalogue import load, source
from configs.published import RESULTS
from diffusion_jax.reporting import report


def write_report(workdir: Path) -> Path:
    """Write the page of the run in `workdir`; see `diffusion_jax.reporting.report.write_report`."""
    return report.write_report(workdir, RESULTS, file_config)


def file_config(name: str) -> tuple[str, ConfigDict] | None:
    """Return the file that 'rin/cifar10:2h' stands for, with its variants, and its config today.

    None where there is no such file or variant: a run may have been started from any module, or by
    an older version of this code.
    """
    if not re.fullmatch(r"\w+/\w+(:[\w.,]+)?", name):
        return None
    file, colon, variants = name.partition(":")
    try:
        return f"{source(file)}{colon}{variants}", load(name)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
