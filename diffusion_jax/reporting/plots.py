"""Plots of several runs or scores, as PNG."""

import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffusion_jax.evaluation.results import SHOWN, Result
from diffusion_jax.reporting.figures import smoothed

LAST = 0.25  # of the steps, whose mean loss is the loss of a run

Curve = list[tuple[int, float]]  # (step, loss)
Curves = dict[str, dict[int, Curve]]  # value of a field -> seed -> curve


def plot_metrics(results: Mapping[float, Result], label: str, path: Path) -> None:
    """Draw a panel for each metric that all results have.

    Args:
      results: by the value on the horizontal axis, which is logarithmic over a decade or more.
      label: what the value is.
    """
    from matplotlib.figure import Figure  # imported here: it takes a second

    values = np.array(list(results))
    drawn = {
        title: [result.metrics[name] for result in results.values()]
        for name, (title, _) in SHOWN.items()
        if all(name in result.metrics for result in results.values())
    }
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(7.6, 2.4 * rows + 0.2), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for axes, (title, points) in zip(panels, drawn.items(), strict=False):
        axes.plot(values, points, marker="o", ms=4)
        axes.set_ylabel(title)
        if values.min() > 0 and values.max() >= 10 * values.min():
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    for axes in panels[len(drawn) :]:
        axes.axis("off")
    figure.supxlabel(label, fontsize="medium")
    figure.savefig(path, dpi=130, format="png")


def plot_losses(curves: Curves, title: str, path: Path) -> None:
    """Draw a colour for each value and a line for each seed, smoothed by a fiftieth either side."""
    from matplotlib.figure import Figure  # imported here: it takes a second

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (value, by_seed) in enumerate(curves.items()):
        for seed, curve in by_seed.items():
            steps, losses = np.array(curve).T
            label = value if seed == min(by_seed) else None
            smooth = smoothed(losses, max(1, len(losses) // 50))
            axes.plot(steps, smooth, color=f"C{number}", lw=1, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="training loss")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130, format="png")


def last_loss(curve: Curve) -> float:
    """Return the mean loss over the last quarter of the steps."""
    start = (1 - LAST) * curve[-1][0]
    return statistics.mean(loss for step, loss in curve if step > start)


def loss_table(curves: Curves) -> list[list[str]]:
    """Return titles, and for each value its seeds' losses, their mean, lowest and highest."""
    seeds = list(next(iter(curves.values())))
    table = [["", *(f"seed {seed}" for seed in seeds), "mean", "lowest", "highest"]]
    for value, by_seed in curves.items():
        losses = [last_loss(curve) for curve in by_seed.values()]
        cells = [*losses, statistics.mean(losses), min(losses), max(losses)]
        table.append([value, *(f"{cell:.5f}" for cell in cells)])
    return table
