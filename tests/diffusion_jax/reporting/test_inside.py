"""Labels of the pictures can be read, whatever is measured."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from diffusion_jax.reporting import style
from diffusion_jax.reporting.inside import draw_modules


@pytest.fixture
def drawn(monkeypatch):
    """A function that draws modules, and returns the figure."""
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, path: kept.append(figure))

    def draw(panels):
        draw_modules(Path("x.png"), panels)
        FigureCanvasAgg(kept[-1]).draw()
        return kept[-1]

    return draw


@pytest.mark.parametrize("low, decades", [(0.013, 0.6), (1.4, 1.3), (2e-4, 0.7), (3e-6, 3), (1, 7)])
def test_ticks_do_not_run_into_each_other(drawn, low, decades):
    values = {"a": np.array([low, low * 10**decades]), "b": np.array(low * 2)}
    figure = drawn(dict.fromkeys(("gradient", "parameters", "ratio"), values))
    for axes in figure.axes[:3]:
        left, right = axes.get_xlim()
        ticks = [
            t for t in axes.get_xticklabels(which="both") if left <= t.get_position()[0] <= right
        ]
        boxes = sorted((t.get_window_extent() for t in ticks if t.get_text()), key=lambda b: b.x0)
        assert len(boxes) >= 2
        assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_the_first_and_the_last_layer_have_the_colours_of_the_bar(drawn):
    figure = drawn({"gradient": {"blocks": np.array([1.0, 2.0, 3.0]), "time": np.array(2.0)}})
    blocks, time = figure.axes[0].collections
    assert [to_hex(colour) for colour in blocks.get_facecolors()[[0, -1]]] == ["#440154", "#fde725"]
    assert to_hex(time.get_facecolors()[0]) == to_hex("0.45")
