"""What commands print: lines for the user, warnings, and progress.

Progress is a bar in a terminal, and in a notebook where ipywidgets is installed. Elsewhere it is a
line now and then: in a log, and in a notebook whose file would keep every state of a text bar.
"""

import importlib.util
import math
import sys
from typing import Any

from tqdm import tqdm

from diffusion_jax.spelling import spelt

LINE_EVERY = 30  # seconds between lines of progress in a log, and before the first of them


def printable(text: str) -> str:
    """Escape every character that does not print, line breaks included.

    Names of files and text from files go to a terminal: none of them may move the cursor, hide
    what was written, or pass for a line of ours.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(*lines: str) -> None:
    """Print lines, once for all processes of a run; what does not print is escaped."""
    if _is_main():
        write = tqdm.write if shows_bars() else print  # the first does not cut a bar in two
        write("\n".join(printable(spelt(line)) for line in lines))
        sys.stdout.flush()


def warn(text: str) -> None:
    """Print one line on stderr."""
    print(printable(spelt(text)), file=sys.stderr, flush=True)


def shows_bars() -> bool:
    """Return whether progress is a bar: see the top of this file."""
    return sys.stderr.isatty() or _has_widgets()


def progress(total: int, unit: str, initial: int = 0, each: int = 1, lines: bool = True) -> tqdm:
    """Return a progress bar, or what prints lines on stderr in its place in a log.

    Args:
      total, initial: steps in all, and those that are done already.
      unit: name of what the bar counts.
      each: number of units in a step.
      lines: whether lines are printed where there is no bar.
    """
    kind = _notebook_bar() if _has_widgets() else tqdm if shows_bars() else _Lines
    return kind(
        total=total,
        initial=initial,
        unit=f" {unit}",
        unit_scale=each if each > 1 else False,
        dynamic_ncols=True,
        leave=None,  # of nested bars only the outermost
        disable=not (lines or shows_bars()),
    )


def pace(rate: float, unit: str, remaining: float) -> str:
    """Return how fast something goes, and how many seconds remain: '12.3 images/s, 04:00 left'."""
    number = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
    return f"{number} {unit}/s, {tqdm.format_interval(remaining)} left"


class _Lines(tqdm):
    """Progress in a log: '1,024 of 50,000 images, 12.3 images/s, 1:04:00 left'."""

    def __init__(self, **how: Any):
        super().__init__(**how, delay=LINE_EVERY, mininterval=LINE_EVERY, miniters=1)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print a line. tqdm calls this at most every `LINE_EVERY` seconds."""
        if not _is_main():
            return False
        rate = (self.n - self.initial) / self.format_dict["elapsed"]
        unit = self.unit.strip()
        how_fast = pace(rate, unit, (self.total - self.n) / rate)
        warn(f"{self.n:,} of {self.total:,} {unit}, {how_fast}")
        return True

    def close(self) -> None:
        """End without the line that a bar leaves behind."""
        self.delay = math.inf
        super().close()


def _has_widgets() -> bool:
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def _notebook_bar() -> type[tqdm]:
    from tqdm.notebook import tqdm_notebook  # warns where there is no ipywidgets

    return tqdm_notebook


def _is_main() -> bool:
    jax = sys.modules.get("jax")  # commands that need no devices do not import it
    return jax is None or jax.process_index() == 0
