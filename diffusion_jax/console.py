"""What commands print: lines for the user, warnings, and a progress bar."""

import sys

from tqdm import tqdm

from diffusion_jax.spelling import spelt


def printable(text: str) -> str:
    """Escape every character that does not print, line breaks included.

    Names of files and text from files go to a terminal: none of them may move the cursor, hide
    what was written, or pass for a line of ours.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(*lines: str) -> None:
    """Print lines, once for all processes of a run; what does not print is escaped."""
    jax = sys.modules.get("jax")  # commands that need no devices do not import it
    if jax is None or jax.process_index() == 0:
        print(*(printable(spelt(line)) for line in lines), sep="\n", flush=True)


def warn(text: str) -> None:
    """Print one line on stderr."""
    print(printable(spelt(text)), file=sys.stderr, flush=True)


def progress(total: int, unit: str, initial: int = 0, each: int = 1) -> tqdm:
    """Return a progress bar for a terminal; it prints nothing elsewhere.

    Args:
      each: number of units in a step of the bar.
    """
    return tqdm(
        total=total,
        initial=initial,
        unit=f" {unit}",
        unit_scale=each if each > 1 else False,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
