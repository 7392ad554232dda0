"""The report of a run: what its directory holds, on one page that needs nothing else."""

import datetime
import json
import re
import shlex
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.evaluation.digit_scores import read_table
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.experiment.schema import flatten
from diffusion_jax.experiment.start import read_start
from diffusion_jax.experiment.workdir import defaults_of, read_data, read_run, read_workdir
from diffusion_jax.reporting.figures import draw_curve
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.metrics import METRICS, SPEED, read_lines
from diffusion_jax.reporting.page import Inline, inline, render
from diffusion_jax.reporting.pictures import FOLDER, SECTIONS, read_pictures
from diffusion_jax.reporting.published import Published, compare
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.untrusted import read_regular
from diffusion_jax.training.checkpoints import kept_steps

FILE = "report.html"
MOST_GRIDS = 24
_CURVES = (  # field of metrics.jsonl, title, options of `draw_curve`
    ("loss", "Loss", {"smooth": True}),
    ("gradient_norm", "Gradient norm", {"smooth": True}),
    ("learning_rate", "Learning rate", {"from_zero": True}),
    ("fid", "FID of the samples", {}),
)
_MEDIANS = (  # what it is called, field of speed.jsonl, format, factor
    ("images/s, median", "images_per_second", "{:,.0f}", 1),
    ("a step, median", "step_seconds", "{:,.1f} ms", 1e3),
    ("TFLOP/s of a device, median", "tflops_per_second_per_chip", "{:,.3g}", 1),
    ("of its peak (MFU), median", "mfu", "{:.1%}", 1),
    ("waiting for data, median", "input_wait_fraction", "{:.1%} of the time", 1),
)
_PEAKS = (
    ("memory of a device, at most", "device_peak_bytes"),
    ("memory of the host's process, at most", "host_peak_bytes"),
)

FileConfig = Callable[[str], tuple[str, ConfigDict] | None]


def write_report(workdir: Path, published: Published, file_config: FileConfig) -> Path:
    """Write the page of the run in `workdir`, WORKDIR/report.html, and return its path.

    Args:
      published: the papers' rows, beside which the results are shown.
      file_config: name of a config -> (its file, the config), None where there is none.

    Raises:
      UserError: if there is no run, or one of its files is damaged.
    """
    config, run = read_workdir(workdir), read_run(workdir)
    records, speeds = read_lines(workdir / METRICS), read_lines(workdir / SPEED)
    total, name = config.train.steps, run["config"]
    saved = max(kept_steps(workdir / "checkpoints"), default=0)
    done = max([saved, *(int(record["step"]) for record in records)])
    status = f"{done:,} of {total:,} steps"
    if saved < total:
        status += f", the newest checkpoint is of step {saved:,}" if saved else ", no checkpoint"
    found = find_results(workdir)
    where = {str(path.parent.relative_to(workdir)): result for path, result in found.items()}
    results = compare(name, where, published) if found else []
    curves = [_curve(records, field, title, **how) for field, title, how in _CURVES]
    page = render(
        title=name or workdir.resolve().name,
        finished=saved >= total,
        status=status,
        facts=_facts(workdir, config, run, done, speeds),
        curves=[curve for curve in curves if curve],
        grids=_grids(workdir / "grids"),
        **_pictures(workdir),
        results=list(zip(*results, strict=True)),  # a column for each: a phone has room for few
        published=len(results) - 1 - len(found),
        digits=read_table(workdir),
        speed=_speed(speeds),
        speed_curve=_curve(
            speeds, "images_per_second", "Images a second", smooth=True, from_zero=True
        ),
        **_config(config, file_config(name)),
        **_commands(workdir, config, run["command"]),
        written=f"{datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
    )
    path = workdir / FILE
    write_atomically(path, lambda partial: partial.write_text(page))
    return path


def _facts(
    workdir: Path, config: ConfigDict, run: Mapping[str, str], done: int, speeds: list[dict]
) -> dict[str, str]:
    """Return what stands at the top of the page, by its name; what is not known is left out."""
    data, start, batch_size = read_data(workdir), read_start(workdir), config.train.batch_size
    timed = [record for record in speeds if "step_seconds" in record]
    steps = np.diff([0, *(record["step"] for record in timed)])
    seconds = steps @ np.array([record["step_seconds"] for record in timed])
    facts = {
        "parameters": _parameters(workdir / "parameters.txt"),
        "training examples": f"{data['examples']:,}" if data else "",
        "started from": f"{start.path}, at step {start.step:,}" if start else "",
        "batch": f"{batch_size:,}",
        "examples seen": f"{done * batch_size:,}",
        "devices": run["devices"],
        "code": run["code"],
        "time in training": _time(seconds) if timed else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _parameters(table: Path) -> str:
    """Return '30.95M' of the total that parameters.txt ends with, '' where there is none."""
    text = read_regular(table, 2**26).decode(errors="replace") if table.is_file() else ""
    total = re.search(r"Total: (\d[\d,]{,30})", text)
    return f"{int(total[1].replace(',', '')) / 1e6:.2f}M" if total else ""


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _curve(records: list[dict], field: str, title: str, **how: bool) -> dict[str, str] | None:
    """Return a curve and its last value, None for fewer than two points."""
    points = [(record["step"], record[field]) for record in records if field in record]
    if len(points) < 2:
        return None
    steps, values = zip(*points, strict=True)
    svg = draw_curve(steps, values, f"{title} over steps", **how)
    return {"title": title, "svg": svg, "last": f"{values[-1]:.4g} at the end"}


def _grids(folder: Path) -> list[tuple[int, Inline]]:
    """Return sample grids by step, an even choice of them where there are many."""
    paths = [path for path in folder.glob("*.png") if re.fullmatch("[0-9]+", path.stem)]
    paths = sorted(paths, key=lambda path: int(path.stem))
    chosen = [paths[place] for place in evenly(len(paths), MOST_GRIDS)]
    return [(int(path.stem), inline(path)) for path in chosen]


def _pictures(workdir: Path) -> dict[str, list]:
    """Return the pictures of each section of the page, with their captions."""
    shown = [(each, inline(workdir / FOLDER / each.file)) for each in read_pictures(workdir)]
    return {
        section: [(picture, image) for picture, image in shown if picture.section == section]
        for section in SECTIONS
    }


def _speed(records: list[dict]) -> dict[str, str]:
    """Return medians over the records, since compilation makes the first of them an outlier."""

    def values(field: str) -> list[float]:
        return [record[field] for record in records if field in record]

    rows = {
        name: text.format(factor * statistics.median(found))
        for name, field, text, factor in _MEDIANS
        if (found := values(field))
    }
    if saving := [seconds for seconds in values("checkpoint_seconds") if seconds]:
        rows["waiting for a checkpoint, median"] = f"{statistics.median(saving):.2f} s"
    peaks = {name: values(field) for name, field in _PEAKS}
    return rows | {name: f"{max(found) / 2**30:.2f} GiB" for name, found in peaks.items() if found}


def _config(config: ConfigDict, written: tuple[str, ConfigDict] | None) -> dict[str, Any]:
    """Return the fields that differ from the config's file, and those that are not the defaults."""
    file, of_file = written or ("", None)
    ours = _flat(config)
    return {
        "file": file,
        "changed": _differing(ours, _flat(of_file)) if of_file else [],
        "unusual": _differing(ours, _flat(defaults_of(config.model))),
    }


def _flat(config: ConfigDict) -> dict[str, Any]:
    return flatten(json.loads(config.to_json()))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, our value, their value) of fields that differ, '' for what is not there."""
    pairs = [(name, ours.get(name, ""), theirs.get(name, "")) for name in ours | theirs]
    return [(name, our, their) for name, our, their in pairs if our != their]


def _commands(workdir: Path, config: ConfigDict, train: str) -> dict[str, str]:
    """Return what the page's commands are made of."""
    shorter = re.sub(r" --config\.train\.steps=\S+", "", train)
    files = {"reference": "reference.npz", "inception": "inception.npz"}
    judge = [f"--{name}={shlex.quote(config.evaluation[name] or files[name])}" for name in files]
    return {
        "at": f"--workdir={shlex.quote(str(workdir))}",
        "train": train,
        "longer": f"{shorter} --config.train.steps={2 * config.train.steps}",
        "kind": config.model.geometry.kind,
        "data": config.data.name,
        "judge": " ".join(judge),
    }
