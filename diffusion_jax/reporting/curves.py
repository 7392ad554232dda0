"""Curves of a page: a still picture, and the values that a browser draws instead."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diffusion_jax.reporting.facts import RunRecord
from diffusion_jax.reporting.figures import COLOURS, draw_curve, is_logarithmic, reach, smoothed
from diffusion_jax.reporting.grids import evenly

MOST_POINTS = 4_000  # of a line that a browser draws

_TRAINING: tuple[tuple[str, dict[str, str], dict[str, bool]], ...] = (
    # Title, what each field of metrics.jsonl is called in it, options of `draw_curve`.
    ("Loss", {"loss": "", "held_out_loss": "held out"}, {"smooth": True}),
    ("Gradient norm", {"gradient_norm": ""}, {"smooth": True}),
    ("Learning rate", {"learning_rate": ""}, {"from_zero": True}),
    ("FID of the samples", {"fid": ""}, {}),
)

Points = tuple[Sequence[int], Sequence[float]]  # steps, and a value for each


class Curve(NamedTuple):
    """A curve of a page.

    Attributes:
      title: what it shows.
      last: its last value in words, '' if there are several lines.
      svg: the still picture.
      keys: name and colour of each line, a variable of the page's style.
      data: JSON for curves.js.
    """

    title: str
    last: str
    svg: str
    keys: list[tuple[str, str]]
    data: str


def points_of(records: Sequence[Mapping[str, float]], field: str) -> Points:
    """Return a field's steps and values, of the records that have it."""
    found = [record for record in records if field in record]
    return [int(record["step"]) for record in found], [record[field] for record in found]


def curves_of(runs: Mapping[str, RunRecord]) -> list[Curve]:
    """Return the curves of training.

    Args:
      runs: by name; '' for the only one.
    """
    curves = []
    for title, fields, how in _TRAINING:
        lines = {
            " ".join(filter(None, [name, word])): points_of(run.records, field)
            for name, run in runs.items()
            for field, word in fields.items()
        }
        curves.append(_curve(title, lines, runs, **how))
    return [curve for curve in curves if curve]


def speed_curve(runs: Mapping[str, RunRecord]) -> Curve | None:
    """Return the curve of images a second; see `curves_of`."""
    lines = {name: points_of(run.speeds, "images_per_second") for name, run in runs.items()}
    return _curve("Images a second", lines, runs, smooth=True, from_zero=True)


def _curve(
    title: str, lines: dict[str, Points], runs: Mapping[str, RunRecord], **how: bool
) -> Curve | None:
    if len(runs) > 1:
        return make_curve(title, lines, **how)
    (run,) = runs.values()
    named = {name or title.lower(): line for name, line in lines.items()}
    return make_curve(title, named, until=run.done, **how)


def make_curve(
    title: str,
    lines: Mapping[str, Points],
    *,
    smooth: bool = False,
    from_zero: bool = False,
    until: int | None = None,
) -> Curve | None:
    """Return a curve; None if no line has two points.

    Args:
      lines: by their names; those of fewer than two points are left out.
      smooth, from_zero: see `draw_curve`.
      until: the run's last step: a line that ends before says at which step it does.
    """
    lines = {name: line for name, line in lines.items() if len(line[0]) >= 2}
    if not lines:
        return None
    svg = draw_curve(lines, f"{title} over steps", smooth=smooth, from_zero=from_zero)
    last = ""
    if len(lines) == 1:
        ((steps, values),) = lines.values()
        where = "at the end" if until in (None, steps[-1]) else f"at step {steps[-1]:,}"
        last = f"{values[-1]:.4g} {where}"
    keys = list(zip(lines, COLOURS * len(lines), strict=False))
    return Curve(title, last, svg, keys, json.dumps(_data(lines, smooth, from_zero)))


def _data(lines: Mapping[str, Points], smooth: bool, from_zero: bool) -> dict:
    """Return lines on the steps that any of them has, with null where a line has no value."""
    drawn = []
    for (name, (steps, values)), colour in zip(lines.items(), COLOURS * len(lines), strict=False):
        chosen = evenly(len(steps), MOST_POINTS)
        averaged = smooth and reach(len(steps)) > 0
        about = {"colour": colour, "faint": False}
        if not averaged or len(lines) <= 2:
            raw = np.asarray(values, float)[chosen]
            drawn.append(
                (np.asarray(steps)[chosen], raw, {"name": name, **about, "faint": averaged})
            )
        if averaged:
            means = smoothed(np.asarray(values), reach(len(steps)))[chosen]
            word = f"{name}, smoothed" if len(lines) <= 2 else name
            drawn.append((np.asarray(steps)[chosen], means, {"name": word, **about}))
    every = np.unique(np.concatenate([steps for steps, *_ in drawn]))
    values = np.concatenate([values for _, values, _ in drawn])
    return {
        "steps": every.tolist(),
        "lines": [about | {"values": _placed(every, *points)} for *points, about in drawn],
        "log": not from_zero and is_logarithmic(values),
        "from_zero": from_zero,
    }


def _placed(every: np.ndarray, steps: np.ndarray, values: np.ndarray) -> list[float | None]:
    placed: list[float | None] = [None] * len(every)
    for place, value in zip(np.searchsorted(every, steps), values, strict=True):
        placed[place] = float(f"{value:.6g}")
    return placed
