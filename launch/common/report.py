"""Reports of runs beside what this checkout knows: config files and the papers' results."""

import re
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from configs.catalogue import load, source
from configs.published import RESULTS
from diffusion_jax.reporting.comparison import comparison_page
from diffusion_jax.reporting.facts import read_record
from diffusion_jax.reporting.report import report_page
from diffusion_jax.spelling import spelt
from diffusion_jax.storage.files import write_atomically

FILE = "report.html"


def page_of(workdirs: Sequence[Path], *, live: str = "") -> str:
    """Return the report of a run, or the comparison of several.

    Args:
      live: `Server.changed` of the server that shows it; '' for a file.

    Raises:
      UserError: if there is no run, or one of its files is damaged.
    """
    if len(workdirs) > 1:
        return spelt(comparison_page(workdirs, RESULTS, live=live))
    return spelt(report_page(read_record(workdirs[0]), RESULTS, file_config, live=live))


def write_report(workdir: Path) -> Path:
    """Write the report of a run, WORKDIR/report.html, and return its path. Raises as `page_of`."""
    return write_page([workdir], workdir / FILE)


def write_page(workdirs: Sequence[Path], path: Path) -> Path:
    """Write `page_of` to a path, atomically, and return the path."""
    page = page_of(workdirs)
    write_atomically(path, lambda partial: partial.write_text(page))
    return path


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
