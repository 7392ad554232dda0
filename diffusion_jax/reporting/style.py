"""The style that all figures share: their ground, resolution and layout."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUND = "#f3f3f3"  # suits light and dark pages
DPI = 150


def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple["Figure", np.ndarray]:
    """Return a new figure and its axes, an array (rows, columns).

    Args:
      width, height: inches.
      **options: to `Figure.subplots`.
    """
    from matplotlib.figure import Figure  # imported here: it takes a second, and training waits
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    made = Figure((width, height), dpi=DPI, facecolor=GROUND, layout=layout)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, to a path of any suffix."""
    figure.savefig(path, format="png")
