"""Curves of a run, as SVG that takes its colours and font from the page around it."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax.reporting import style

# Curves are drawn in these placeholders, which are then replaced by colours that the page sets, in
# light and in dark.
_COLOURS = {"#010203": "currentColor", "#010204": "var(--accent)"}
_TEXT, _ACCENT = _COLOURS
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


def draw_curve(
    steps: Sequence[int],
    values: Sequence[float],
    label: str,
    *,
    smooth: bool = False,
    from_zero: bool = False,
) -> str:
    """Return an <svg> element with a curve over training steps.

    The scale is logarithmic if the values span more than one order of magnitude.

    Args:
      label: what the curve shows, for screen readers.
      smooth: draw the curve faintly, and over it means of a fiftieth of it to either side.
      from_zero: start the axis at 0, on a linear scale.
    """
    import matplotlib  # imported here: it takes a second, and launch.train imports this module
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    steps, values = np.asarray(steps), np.asarray(values)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure, ((axes,),) = style.figure(*_SIZE)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.grid(axis="y", alpha=0.15, linewidth=0.7)
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
    for colour, name in _COLOURS.items():
        body = body.replace(colour, name)
    return f'<svg {box} role="img" aria-label="{label}">{body}'
