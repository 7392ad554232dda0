"""Pictures of what a run draws: by class, noise, guidance and step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment import quality
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.given import Edit
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.grids import evenly, headed_grid
from diffusion_jax.reporting.pictures import FOLDER, Picture, save_picture
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.samplers import DDPM
from launch.common import cli
from launch.common.options import chosen_checkpoint

ROWS = 8
MOST_CLASSES = 10
FRACTIONS = np.linspace(0, 1, 9, dtype=np.float32)
WEIGHTS = np.array([0, 0.5, 1, 2, 4, 8], np.float32)
MOMENTS = 10  # columns of a trajectory
NEED_CLASSES = ("classes", "sweep", "guidance")


class Shown(NamedTuple):
    """Rows of images (R, columns, H, W, C) uint8 and their words."""

    title: str
    caption: str
    rows: np.ndarray
    heads: Sequence[str]
    names: Sequence[str] = ()


def show(config: ConfigDict, workdir: Path, options: flags.FlagValues) -> Path:
    """Draws the picture that --show names; returns its file.

    Raises:
      UserError: for a picture that this run cannot give.
    """
    kind, num = options.show, None
    if options["num"].present:
        num = options.num
        check_at_least("--num", num, 1)
    config = checked(kind, config, options)
    checkpoint = chosen_checkpoint(options)
    run = open_run(config, workdir, options.seed, options.batch_size, checkpoint=checkpoint)
    folder = Path(options.out) if options.out else workdir
    if kind == "steps":
        found = quality.measure(run, num or quality.NUM)
        picture = _picture(kind, quality.TITLE, found.caption(), run.step)
        return _save(folder, picture, lambda path: quality.plot(found, path))
    shown = GRIDS[kind](run, options.labels, num or ROWS)
    picture = _picture(kind, shown.title, shown.caption, run.step)
    return _save(folder, picture, _writer(shown))


def checked(kind: str, config: ConfigDict, options: flags.FlagValues) -> ConfigDict:
    """The config to draw a picture with. Raises `UserError` where there is none."""
    for name in ("images", "mask", "noise_level", "frames", "extend"):
        if options[name].present:
            raise UserError(f"--show draws from noise alone: leave out --{name}")
    if kind in NEED_CLASSES and not config.model.num_classes:
        raise UserError(f"--show={kind} compares classes, and this run's model has none")
    if kind == "guidance" and not config.objective.label_dropout:
        raise UserError(
            "--show=guidance needs a run with label dropout (--config.objective.label_dropout=0.1)"
        )
    if kind == "interpolate" and config.sampling.sampler in DDPM:
        if options.sampler:
            raise UserError(
                f"--sampler is {options.sampler}, which adds noise at every step: --show="
                "interpolate takes ddim, dpmpp_2m or heun, where the start decides the sample"
            )
        config.sampling.sampler = "ddim"
    if kind == "steps":
        quality.check(config, options)
    return config


def classes(run: Run, text: str, num: int) -> Shown:
    """A column for each class."""
    columns = _columns(run, text)
    indices = np.arange(num * len(columns))
    rows = _table(run, indices, np.tile(columns, num), num)
    caption = "A column for each class. Every sample has noise of its own."
    return Shown("Samples by class", caption, rows, columns.astype(str))


def sweep(run: Run, text: str, num: int) -> Shown:
    """A column for each class, each row of one noise."""
    columns = _columns(run, text)
    indices = np.repeat(np.arange(num), len(columns))
    rows = _table(run, indices, np.tile(columns, num), num)
    caption = (
        "A column for each class. The samples of a row have the same noise, at the start and in "
        "every step: what they share is not of the class."
    )
    return Shown("One noise, every class", caption, rows, columns.astype(str))


def interpolate(run: Run, text: str, num: int) -> Shown:
    """From the start noise of sample 2r, on the left of row r, to that of sample 2r + 1."""
    size = len(FRACTIONS)
    first = np.repeat(2 * np.arange(num), size)
    given = Given(other=(first + 1).astype(np.int32), fraction=np.tile(FRACTIONS, num))
    labels = _row_labels(run, text, num, size)
    rows = _table(run, first, labels, num, given)
    caption = (
        "Each row has one class and goes from one sample, on the left, to another: their start "
        f"noises are mixed on the arc between them, and {run.experiment.sampling.sampler} adds no "
        "noise. Smooth rows say that the network has learnt more than single examples."
    )
    return Shown("From one sample to another", caption, rows, [f"{f:g}" for f in FRACTIONS])


def trajectory(run: Run, text: str, num: int) -> Shown:
    """x_t over the reverse steps, and below it the estimate of x_0."""
    sampling = run.experiment.sampling
    watched = evenly(sampling.steps, MOMENTS)
    labels = _row_labels(run, text, num, 1)
    images = run.draw(np.arange(num), labels, watched=watched.tolist())
    rows = _stills(run, images.swapaxes(1, 2))  # (num, 2, columns, ...)
    rows = rows.reshape(-1, *rows.shape[2:])
    heads = [f"{time:.2g}" for time in sampling.times()[watched]]
    caption = (
        f"Two rows for a sample: x_t at these times t of the {sampling.steps} steps, and under it "
        "what the network, from that x_t, takes the sample to be. The last estimate is the sample."
    )
    return Shown("From noise to samples", caption, rows, heads, ["x_t", "x_0"] * num)


def guidance(run: Run, text: str, num: int) -> Shown:
    """A column for each guidance weight, each row of one noise and class."""
    size = len(WEIGHTS)
    indices = np.repeat(np.arange(num), size)
    labels = _row_labels(run, text, num, size)
    rows = _table(run, indices, labels, num, Given(guidance=np.tile(WEIGHTS, num)))
    caption = (
        "A column for each guidance weight w, 0 for none; a row has one class and one noise. "
        "Guidance makes samples plainer and less varied; too much of it distorts them."
    )
    return Shown("Guidance", caption, rows, [f"w {weight:g}" for weight in WEIGHTS])


GRIDS = {made.__name__: made for made in (classes, sweep, interpolate, trajectory, guidance)}
KINDS = (*GRIDS, "steps")


def show_edit(edit: Edit, workdir: Path, out: Path, step: int) -> Path:
    """A picture of given images and what samples in the folder `out` made of them."""
    with np.load(out / "samples.npz") as archive:
        rows, names = edit.rows(archive["arr_0"])
    if edit.is_inpainting:
        file, title = "inpaint", "Inpainting"
        caption = (
            "Given images, the part that is kept, and draws of the rest (RePaint, "
            f"{edit.resample} passes)."
        )
    else:
        file, title = "vary", "Image to image"
        caption = f"Given images, and draws from noise level {edit.noise_level:g} of them (SDEdit)."
    picture = _picture(file, title, caption, step)
    return _save(workdir, picture, _writer(Shown(title, caption, rows, [], names)))


def _columns(run: Run, text: str) -> np.ndarray:
    """The classes given, each once, or so many of all, evenly spread."""
    count = run.experiment.num_classes
    if text:
        return parse_labels(text, 0, text.count(",") + 1, count)
    return evenly(count, MOST_CLASSES).astype(np.int32)


def _row_labels(run: Run, text: str, rows: int, columns: int) -> np.ndarray | None:
    """(rows * columns,) a class for each row: the given in turn, or all, evenly spread."""
    if not run.experiment.num_classes and not text:
        return None
    return np.repeat(np.resize(_columns(run, text), rows), columns)


def _table(
    run: Run, indices: np.ndarray, labels: np.ndarray | None, rows: int, given: Given = NOTHING
) -> np.ndarray:
    images = _stills(run, run.draw(indices, labels, given))
    return images.reshape(rows, -1, *images.shape[1:])


def _stills(run: Run, images: np.ndarray) -> np.ndarray:
    """The images; of videos, their last frames."""
    return images[..., -1, :, :, :] if len(run.experiment.sample_shape) == 4 else images


def _picture(name: str, title: str, caption: str, step: int) -> Picture:
    return Picture(f"{name}.png", "samples", title, caption, step, cli.command())


def _writer(shown: Shown) -> Callable[[Path], None]:
    image = Image.fromarray(headed_grid(shown.rows, shown.heads, shown.names))
    return lambda path: image.save(path, format="png")


def _save(folder: Path, picture: Picture, write: Callable[[Path], None]) -> Path:
    path = folder / FOLDER / picture.file
    if hosts.is_main():
        save_picture(folder, picture, write)
    hosts.wait_for_all("shown")
    return path
