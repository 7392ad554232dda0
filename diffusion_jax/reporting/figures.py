"""Curves of a run, as SVG that takes its colours and font from the page around it."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_jax.reporting import style

COLOURS = ("--accent", *(f"--line{number}" for number in range(1, 8)))  # of the page's style
# Curves are drawn in these placeholders, which are then replaced by colours that the page sets, in
# light and in dark.
_TEXT = "#010203"
_LINES = [f"#0102{4 + number:02d}" for number in range(len(COLOURS))]
_SIZE = 4.5, 2.6  # inches of 72 px; a phone shows them at about this size, with a font of 10 px
_COLOURED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys((*_COLOURED, "grid.color"), _TEXT) | {
    "svg.fonttype": "none",  # text stays text
    "path.simplify_threshold": 0.3,
    "font.size": 10,
    "font.sans-serif": "DejaVu Sans",
    "lines.solid_joinstyle": "round",
}


def smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Return means of each value and up to `reach` of its neighbours on either side.

    Args:
      values: (N,).

    Returns:
      (N,) float64.
    """
    sums, place = np.cumsum([0.0, *values]), np.arange(len(values))
    first, end = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def reach(count: int) -> int:
    """Return how far to smooth a line of `count` points, 0 for one whose points are marked."""
    return max(1, count // 50) if count > 20 else 0


def is_logarithmic(values: np.ndarray) -> bool:
    """Return whether values are positive and span more than one order of magnitude."""
    return bool(0 < 10 * values.min() < values.max())


def draw_curve(
    lines: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    label: str,
    *,
    smooth: bool = False,
    from_zero: bool = False,
) -> str:
    """Return an <svg> element with lines over training steps.

    The scale is logarithmic if the values span more than one order of magnitude.

    Args:
      lines: steps and values by name, in the order of `COLOURS`.
      label: what the curve shows, for screen readers.
      smooth: draw means of a fiftieth of a long line to either side, and below these, if there are
        at most two lines, the line itself.
      from_zero: start the axis at 0, on a linear scale.
    """
    import matplotlib  # imported here: it takes a second, and launch.train imports this module
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    every = np.concatenate([np.asarray(values) for _, values in lines.values()])
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure, ((axes,),) = style.figure(*_SIZE)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.grid(axis="y", alpha=0.15, linewidth=0.7)
        for (steps, values), colour in zip(lines.values(), _LINES * len(lines), strict=False):
            about = dict(color=colour, marker="" if reach(len(steps)) else "o", markersize=3)
            if smooth and reach(len(steps)):
                if len(lines) <= 2:
                    axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
                values = smoothed(np.asarray(values), reach(len(steps)))
            axes.plot(steps, values, **about)
        if from_zero:
            axes.set_ylim(bottom=0)
        elif is_logarithmic(every):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_xlabel("step")
        axes.margins(x=0.01)
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return _for_page(text.getvalue(), label)


def short(number: float) -> str:
    """Return a number in few characters: '150k' for 150,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _for_page(text: str, label: str) -> str:
    """Return what matplotlib wrote as an element of a page."""
    box = re.findall(r'viewBox="[^"]+"', text)[0]
    body = text[text.index("</defs>") + len("</defs>") :]  # the page has a style
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # ids must be unique in a page
    body = body.replace(_TEXT, "currentColor")
    for placeholder, colour in zip(_LINES, COLOURS, strict=True):
        body = body.replace(placeholder, f"var({colour})")
    return f'<svg {box} role="img" aria-label="{label}">{body}'
