"""What benchmarks print and write: a table in Markdown, and the numbers as JSON."""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from diffusion_jax.console import say
from diffusion_jax.storage.files import write_atomically, writing


class Table:
    """A table in Markdown, printed row by row while its rows are measured.

    Attributes:
      lines: those of the title, an empty one, and the table.
    """

    def __init__(self, title: str, columns: Sequence[str]):
        self.lines = [*title.splitlines(), "", _row(columns), "|---" * len(columns) + "|"]
        say(*self.lines)

    def add(self, *cells: str) -> None:
        """Print a row and keep it."""
        self.lines.append(_row(cells))
        say(self.lines[-1])

    def write(self, out: Path, numbers: dict[str, Any], *below: str) -> None:
        """Write OUT.md, the table with paragraphs below it, and OUT.json with the numbers."""
        text = "\n\n".join(["\n".join(self.lines), *below]) + "\n"
        write_table(out, text, json.dumps(numbers, indent=1))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_table(out: Path, table: str, content: str) -> None:
    """Write the page OUT.md, and OUT.json with the numbers of its table."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".md", table), (".json", content + "\n")):
        write_atomically(out.with_suffix(suffix), functools.partial(Path.write_text, data=text))


def device_name() -> str:
    """Return '2 CPU cores', or the number and kind of the accelerators."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"{os.cpu_count()} CPU cores"
    return f"{jax.device_count()} x {device.device_kind}"
