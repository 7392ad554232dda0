"""Curves take the page's colours, and show what was measured."""

import numpy as np

from diffusion_jax.reporting.figures import draw_curve, short, smoothed


def test_means_of_neighbours_neither_lead_nor_lag():
    values = np.random.default_rng(0).normal(size=50)
    means = smoothed(values, 4)
    np.testing.assert_allclose(means[20], values[16:25].mean())
    np.testing.assert_allclose(means[[0, -1]], [values[:5].mean(), values[-5:].mean()])
    line = np.arange(50.0)
    np.testing.assert_allclose(smoothed(line, 4)[4:-4], line[4:-4])


def test_a_curve_has_no_colour_font_or_id_of_its_own():
    svg = draw_curve({"": (range(100), np.linspace(1, 2, 100))}, "Loss over steps", smooth=True)
    assert svg.startswith('<svg viewBox="') and 'aria-label="Loss over steps"' in svg
    assert "currentColor" in svg and "var(--accent)" in svg
    assert "#0102" not in svg and "<style" not in svg and "<g id" not in svg
    other = draw_curve({"": (range(100), np.linspace(1, 2, 100))}, "Gradient norm over steps")
    clip = svg[svg.index("<clipPath id=") :].split('"')[1]
    assert clip in svg and clip not in other


def test_a_logarithmic_scale_where_values_span_a_decade():
    def ticks(last, **how):
        text = draw_curve({"": (range(30), np.linspace(0.1, last, 30))}, "Loss", **how)
        return {part.split("</text>")[0].split(">")[-1] for part in text.split("<text")[1:]}

    assert {"0.2", "0.5", "1", "2", "5"} < ticks(9)
    assert "4" in ticks(9, from_zero=True)
    assert "0.3" in ticks(0.5)


def test_short_numbers():
    assert [short(n) for n in (0, 0.02, 999, 1500, 2e6)] == ["0", "0.02", "999", "1.5k", "2M"]
