"""Curves of a run as SVG that takes the colours and the font of the page it stands in."""

import io
import re
from collections.abc import Sequence

import numpy as np

# Drawn in these, which nothing else has, and replaced: a page in the dark has other colours.
_COLOURS = {"#010203": "currentColor", "#010204": "var(--accent)"}
_TEXT, _ACCENT = _COLOURS
_SIZE = 4.5, 2.6  # inches of 72 px: on a phone about as they are, so that the font is 10 px there
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "path.simplify_threshold": 0.3,
    "font.size": 10,
    "font.sans-serif": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": _TEXT,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _TEXT,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.solid_joinstyle": "round",
}


def smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Means of each value with `reach` of them, or what there is, on either side.

    Args:
      values: (N,).

    Returns:
      (N,) float64.
    """
    sums, place = np.cumsum([0.0, *values]), np.arange(len(values))
    first, end = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def draw_curve(
    steps: Sequence[int],
    values: Sequence[float],
    label: str,
    *,
    smooth: bool = False,
    from_zero: bool = False,
) -> str:
    """An <svg> element with a curve over training steps.

    The values are on a logarithmic scale where they are of more than one order of magnitude.

    Args:
      label: what it shows, for those who cannot see it.
      smooth: draws the curve faintly, and means of a fiftieth of it to either side.
      from_zero: shows values from 0 on, and never on a logarithmic scale.
    """
    import matplotlib  # imported here: it takes a second, and launch.train imports this module
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    steps, values = np.asarray(steps), np.asarray(values)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(_SIZE, layout="constrained")
        axes = figure.add_subplot()
        marker = "o" if len(steps) <= 20 else ""
        if smooth and not marker:
            axes.plot(steps, values, color=_ACCENT, alpha=0.3, linewidth=0.8)
            values = smoothed(values, max(1, len(values) // 50))
        axes.plot(steps, values, color=_ACCENT, marker=marker, markersize=3)
        if from_zero:
            axes.set_ylim(bottom=0)
        elif values.min() > 0 and values.max() > 10 * values.min():
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
    """'150k' of 150,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _for_page(text: str, label: str) -> str:
    """What matplotlib wrote, as an element of a page."""
    box = re.search(r'viewBox="[^"]+"', text)[0]
    body = text[text.index("</defs>") + len("</defs>") :]  # after a style that the page has
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the same in every figure
    for colour, name in _COLOURS.items():
        body = body.replace(colour, name)
    return f'<svg {box} role="img" aria-label="{label}">{body}'
