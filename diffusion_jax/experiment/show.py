"""Pictures of what a run draws: by class, noise, guidance and reverse step."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from ml_collections import ConfigDict
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.experiment import quality
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.given import Edit
from diffusion_jax.experiment.inside import WORDS
from diffusion_jax.experiment.weights import NEWEST, Checkpoint
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.grids import evenly, headed_grid
from diffusion_jax.reporting.pictures import FOLDER, Picture, read_words, save_picture
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.samplers import SAMPLERS

ROWS = 8
MOST_CLASSES = 10
FRACTIONS = np.linspace(0, 1, 9, dtype=np.float32)
WEIGHTS = np.array([0, 0.5, 1, 2, 4, 8], np.float32)
MOMENTS = 10  # columns of a trajectory
NEED_CLASSES = ("classes", "sweep", "guidance")


class Shown(NamedTuple):
    """A picture of samples.

    Attributes:
      rows: (R, columns, H, W, C) uint8 images.
      heads: the names of the columns.
      names: the names of the rows.
      values: what the caption mentions.
    """

    rows: np.ndarray
    heads: Sequence[str] = ()
    names: Sequence[str] = ()
    values: Mapping[str, Any] = {}


def show(
    config: ConfigDict,
    workdir: Path,
    kind: str,
    *,
    changes: Mapping[str, Any],
    num: int | None = None,
    labels: str = "",
    seed: int = 0,
    batch_size: int = 64,
    out: Path | None = None,
    checkpoint: Checkpoint = NEWEST,
    command: str,
) -> Path:
    """Draw a picture; return its file.

    Args:
      config: of the run or export in `workdir`, with the sampling section to use.
      kind: one of `KINDS`.
      changes: the fields of sampling that the user chose; `config` has them already.
      num: rows of the picture, or samples for each point of 'steps'.
      labels: see `parse_labels`.
      batch_size: samples at a time.
      out: the folder for pictures/, if not `workdir`.
      command: what was called.

    Raises:
      UserError: for a picture that this run cannot give.
    """
    config = checked(kind, config, changes)
    run = open_run(config, workdir, seed, batch_size, checkpoint=checkpoint)
    if kind == "steps":
        found = quality.measure(run, num or quality.NUM)
        write, values = functools.partial(quality.plot, found), found.values()
    else:
        shown = GRIDS[kind](run, labels, num or ROWS)
        write, values = _writer(shown), shown.values
    return _save(out or workdir, kind, write, values, run.step, command)


def checked(kind: str, config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Return the config to draw a picture with. Raises `UserError` where there is none."""
    if kind in NEED_CLASSES and not config.model.num_classes:
        raise UserError(f"--show={kind} compares classes, and this run's model has none")
    if kind == "guidance" and not config.objective.label_dropout:
        raise UserError(
            "--show=guidance needs a run with label dropout (--config.objective.label_dropout=0.1)"
        )
    if kind == "interpolate" and SAMPLERS[config.sampling.sampler].adds_noise:
        if "sampler" in changes:
            others = ", ".join(name for name, each in SAMPLERS.items() if not each.adds_noise)
            raise UserError(
                f"--sampler is {config.sampling.sampler}, which adds noise at every step: "
                f"--show=interpolate takes {others}, where the initial noise decides the sample"
            )
        config.sampling.sampler = "ddim"
    if kind == "steps":
        quality.check(config, changes)
    return config


def classes(run: Run, text: str, num: int) -> Shown:
    """Draw a column for each class."""
    columns = _columns(run, text)
    rows = _table(run, np.arange(num * len(columns)), np.tile(columns, num), num)
    return Shown(rows, columns.astype(str).tolist())


def sweep(run: Run, text: str, num: int) -> Shown:
    """Draw a column for each class, each row from one noise."""
    columns = _columns(run, text)
    rows = _table(run, np.repeat(np.arange(num), len(columns)), np.tile(columns, num), num)
    return Shown(rows, columns.astype(str).tolist())


def interpolate(run: Run, text: str, num: int) -> Shown:
    """Go from the initial noise of sample 2r, on the left of row r, to that of sample 2r + 1."""
    first = np.repeat(2 * np.arange(num), len(FRACTIONS))
    given = Given(other=(first + 1).astype(np.int32), fraction=np.tile(FRACTIONS, num))
    rows = _table(run, first, _row_labels(run, text, num, len(FRACTIONS)), num, given)
    values = dict(sampler=run.experiment.sampling.sampler)
    return Shown(rows, [f"{f:g}" for f in FRACTIONS], values=values)


def trajectory(run: Run, text: str, num: int) -> Shown:
    """Draw x_t over the reverse steps, and below it the estimate of x_0."""
    sampling = run.experiment.sampling
    steps = evenly(sampling.steps, MOMENTS)
    images = run.trajectory(np.arange(num), _row_labels(run, text, num, 1), steps)
    rows = rearrange(_stills(run, images), "n column pair ... -> (n pair) column ...")
    heads = [f"{time:.2g}" for time in sampling.times()[steps]]
    return Shown(rows, heads, ["x_t", "x_0"] * num, dict(steps=sampling.steps))


def guidance(run: Run, text: str, num: int) -> Shown:
    """Draw a column for each guidance weight, each row from one noise and class."""
    indices = np.repeat(np.arange(num), len(WEIGHTS))
    given = Given(guidance=np.tile(WEIGHTS, num))
    rows = _table(run, indices, _row_labels(run, text, num, len(WEIGHTS)), num, given)
    return Shown(rows, [f"w {weight:g}" for weight in WEIGHTS])


GRIDS = {made.__name__: made for made in (classes, sweep, interpolate, trajectory, guidance)}
KINDS = (*GRIDS, "steps")


def show_edit(edit: Edit, workdir: Path, out: Path, step: int, command: str) -> Path:
    """Draw given images beside the samples in the folder `out` that were made from them."""
    with np.load(out / "samples.npz") as archive:
        rows, names = edit.rows(archive["arr_0"])
    name = "inpaint" if edit.is_inpainting else "vary"
    values = dict(resample=edit.resample, noise_level=edit.noise_level)
    return _save(workdir, name, _writer(Shown(rows, names=names)), values, step, command)


def _columns(run: Run, text: str) -> np.ndarray:
    """Return the classes that the text lists, or a few of all, evenly spread."""
    count = run.experiment.num_classes
    if text and (listed := parse_labels(text, 0, text.count(",") + 1, count)) is not None:
        return listed
    return evenly(count, MOST_CLASSES).astype(np.int32)


def _row_labels(run: Run, text: str, rows: int, columns: int) -> np.ndarray | None:
    """Return a class for each row, (rows * columns,): those of `_columns` in turn."""
    if not run.experiment.num_classes and not text:
        return None
    return np.repeat(np.resize(_columns(run, text), rows), columns)


def _table(
    run: Run, indices: np.ndarray, labels: np.ndarray | None, rows: int, given: Given = NOTHING
) -> np.ndarray:
    images = _stills(run, run.draw(indices, labels, given))
    return rearrange(images, "(row column) ... -> row column ...", row=rows)


def _stills(run: Run, images: np.ndarray) -> np.ndarray:
    """Return the images, or the last frames of videos."""
    return images[..., -1, :, :, :] if len(run.experiment.sample_shape) == 4 else images


def _writer(shown: Shown) -> Callable[[Path], None]:
    tiles = rearrange(shown.rows, "row column ... -> (row column) ...")
    grid = headed_grid(tiles, shown.rows.shape[1], heads=shown.heads, names=shown.names)
    image = Image.fromarray(grid)
    return lambda path: image.save(path, format="png")


def _save(
    folder: Path,
    name: str,
    write: Callable[[Path], None],
    values: Mapping[str, Any],
    step: int,
    command: str,
) -> Path:
    words = read_words(WORDS, name, **values)
    picture = Picture(f"{name}.png", "samples", *words, step, command)
    if hosts.is_main():
        save_picture(folder, picture, write)
    hosts.wait_for_all("shown")
    return folder / FOLDER / picture.file
