"""Pictures of what a network does: maps over images, curves over steps, kernels, reach.

All write a PNG to a path of any suffix.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange

from diffusion_jax.reporting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_maps(
    path: Path,
    images: np.ndarray,
    maps: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    bar: str,
) -> None:
    """Draw rows of an image and its maps, side by side for several samples.

    Args:
      images: (rows, samples, H, W, C) uint8, C = 1 or 3.
      maps: (rows, samples, columns, h, w), from 0; laid over the images, all on one scale.
      column_names: of the maps.
      bar: what the colours mean.
    """
    from matplotlib.colors import ListedColormap

    rows, samples, columns = maps.shape[:3]
    widths = ([1.0] * (1 + columns) + [0.2]) * samples
    figure, axes = style.figure(
        0.85 * sum(widths) + 1, 0.88 * rows + 1.1, rows, len(widths), width_ratios=widths
    )
    opacity = np.linspace(0, 0.9, 256)
    hot = ListedColormap(np.stack([0 * opacity + 1, 0 * opacity + 0.35, 0 * opacity, opacity], 1))
    top = max(2.0, float(np.percentile(maps, 99)))
    height, width = images.shape[2:4]
    extent = (0, width, height, 0)
    for (row, place), ax in np.ndenumerate(axes):
        sample, column = divmod(place, columns + 2)
        ax.set(xticks=[], yticks=[])
        if column == columns + 1:  # between samples
            ax.axis("off")
            continue
        image = np.broadcast_to(images[row, sample], (height, width, 3))
        ax.imshow(image // 2 + 40 if column else image, extent=extent)  # dim below a map
        if column:
            heat = ax.imshow(maps[row, sample, column - 1], hot, vmin=0, vmax=top, extent=extent)
        if row == 0:
            ax.set_title(["x0", *column_names][column], fontsize=9)
        if place == 0:
            ax.set_ylabel(row_names[row], fontsize=9, rotation=0, ha="right", va="center")
    options: dict[str, Any] = dict(location="bottom", shrink=0.6, aspect=40)
    figure.colorbar(heat, ax=axes, label=bar, extend="max", **options)  # the top percent is cut
    style.save(figure, path)


def draw_curves(
    path: Path,
    panels: dict[str, dict[str, np.ndarray]],
    x: np.ndarray,
    x_name: str,
    logarithmic: tuple[str, ...] = (),
) -> None:
    """Draw panels one below the other: mean and standard error over samples.

    Args:
      panels: what is measured -> {name of a line: (len(x), samples)}. Lines whose names differ
        only after a comma have one colour, and dashes from the second on.
      logarithmic: panels of this scale.
    """
    figure, axes = style.figure(6.5, 3.0 * len(panels) + 0.2, len(panels), sharex=True)
    for ax, (name, lines) in zip(axes[:, 0], panels.items(), strict=True):
        colours = {}
        for line, values in lines.items():
            stem = line.split(",")[0]
            dashes = "--" if stem in colours else "-"
            colour = colours.setdefault(stem, f"C{len(colours)}")
            mean, error = values.mean(axis=1), values.std(axis=1) / values.shape[1] ** 0.5
            ax.plot(x, mean, dashes, color=colour, label=line)
            ax.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        ax.set_ylabel(name)
        ax.set_yscale("log" if name in logarithmic else "linear")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    axes[-1, 0].set_xlabel(x_name)
    axes[-1, 0].locator_params(axis="x", integer=np.issubdtype(x.dtype, np.integer))
    style.save(figure, path)


def draw_modules(path: Path, panels: dict[str, dict[str, np.ndarray]]) -> None:
    """Draw a row of dots for each module, a dot for each of its layers, side by side in panels.

    Args:
      panels: what is measured -> {module: values of any shape, layers in C order}; () for a
        module outside of stacks, which is grey. Zeros are left out.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    colour_map, names = colormaps["viridis"], list(next(iter(panels.values())))
    width, height = 1.6 + 3.0 * len(panels), 0.24 * len(names) + 1.4
    figure, axes = style.figure(width, height, 1, len(panels), sharey=True)
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        for row, name in enumerate(names):
            found = np.ravel(values[name])
            depth = np.linspace(0, 1, found.size)
            colours = colour_map(depth) if np.ndim(values[name]) else "0.45"
            ax.scatter(found, np.full(found.size, row), 22, colours, zorder=2)
        ax.set(xscale="log", xlabel=title)
        _mark_few(ax)
        ax.grid(alpha=0.3)
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0, 0].invert_yaxis()
    dots = ScalarMappable(cmap=colour_map)
    bar = figure.colorbar(dots, ax=axes, location="bottom", shrink=0.5, aspect=40)
    bar.set_ticks([0, 1], labels=["first layer of a stack", "last"])
    style.save(figure, path)


def _mark_few(ax: "Axes") -> None:
    """Label so few ticks of a logarithmic horizontal axis that none runs into the next."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = ax.get_xlim()
    subs = (1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize=8)


def draw_kernels(path: Path, kernels: np.ndarray, layer_names: Sequence[str]) -> None:
    """Draw the weight with which one position reads another, both directions on one axis.

    Args:
      kernels: (layers, channels, 2, L), forward, then backward; each channel is drawn in parts of
        its largest weight.
    """
    figure, axes = style.figure(6.5, 2.2 * len(kernels) + 0.6, len(kernels), sharex=True)
    lags = np.arange(kernels.shape[-1])
    for ax, layer, name in zip(axes[:, 0], kernels, layer_names, strict=True):
        for i, (forward, backward) in enumerate(layer):
            scale = np.abs(layer[i]).max()
            colour = f"C{i}"
            ax.plot(-lags, forward / scale, color=colour)
            ax.plot(lags, backward / scale, color=colour)
        ax.axvline(0, color="0.6", lw=0.8)
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_ylabel(name)
        ax.grid(alpha=0.3)
    ticks = 2 ** np.arange(0, np.log2(max(2, lags[-1])) + 1, 2).astype(int)
    axes[-1, 0].set_xticks([*-ticks[::-1], 0, *ticks], [*-ticks[::-1], 0, *ticks])
    axes[-1, 0].set_xlabel("position read, from the position written (tokens in raster order)")
    style.save(figure, path)


def draw_time_scales(
    path: Path,
    scales: np.ndarray,
    fresh: tuple[float, float],
    marks: dict[str, float],
) -> None:
    """Draw quantiles of each layer, and the range of a new network.

    Args:
      scales: (layers, 2, ...) tokens, of the forward and the backward direction.
      fresh: lowest and highest time scale of a new network.
      marks: name -> tokens, drawn as lines.
    """
    figure, axes = style.figure(6.5, 4.2)
    ax = axes[0, 0]
    ax.axhspan(*fresh, color="0.85", label="a new network", zorder=0)
    layers = np.arange(1, len(scales) + 1)
    for direction, offset in enumerate((-0.12, 0.12)):
        values = rearrange(scales[:, direction], "layer ... -> layer (...)")
        low, quarter, middle, three, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], 1)
        colour = f"C{direction}"
        ax.vlines(layers + offset, low, high, color=colour, lw=1)
        ax.vlines(layers + offset, quarter, three, color=colour, lw=5, alpha=0.6)
        ax.plot(
            layers + offset, middle, "o", color=colour, label=("forward", "backward")[direction]
        )
    for name, tokens in marks.items():
        ax.axhline(tokens, color="k", lw=0.8, ls=":")
        ax.annotate(
            name, (0.01, tokens), xycoords=("axes fraction", "data"), fontsize=8, va="bottom"
        )
    ax.set(yscale="log", xlabel="layer", ylabel="time scale 1 / |Re(dt A)| (tokens)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    style.save(figure, path)


def draw_fields(path: Path, fields: np.ndarray, names: Sequence[str], box: Sequence[float]) -> None:
    """Draw receptive fields side by side, on one logarithmic scale.

    Args:
      fields: (count, H, W), each with sum 1.
      box: left, top, width, height in pixels of the place of the output.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    left, upper, wide, high = box
    height, width = fields.shape[1:]
    tall = 2.2 * height / width + 1.3
    figure, axes = style.figure(2.2 * len(fields) + 0.4, tall, 1, len(fields))
    top = float(fields.max())
    norm = LogNorm(top * 1e-6, top)
    for ax, field, name in zip(axes[0], fields, names, strict=True):
        heat = ax.imshow(
            np.maximum(field, top * 1e-6), "magma", norm=norm, extent=(0, width, height, 0)
        )
        ax.add_patch(Rectangle((left, upper), wide, high, fill=False, ec="cyan", lw=1.2))
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[])
    label = "share of the squared gradient"
    figure.colorbar(heat, ax=axes, location="bottom", shrink=0.7, aspect=40, label=label)
    style.save(figure, path)
