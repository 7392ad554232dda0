"""Makes one page of a run, WORKDIR/report.html, which needs no other file and no network.

    python -m launch.report --workdir=runs/digits
    python -m launch.report runs/digits

Config, curves, samples, results beside the paper's, speed, memory and how to continue: whatever the
run has by now. launch.train writes it when it ends. Data and devices are not needed.
"""

import datetime
import importlib
import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from configs.base import base
from configs.published import RESULTS
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.experiment.start import read_start
from diffusion_jax.experiment.workdir import DEFAULTS, flatten, read_data, read_run, read_workdir
from diffusion_jax.reporting.figures import draw_curve
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.metrics import METRICS, SPEED, read_lines
from diffusion_jax.reporting.page import Inline, inline, render
from diffusion_jax.reporting.pictures import FOLDER, SECTIONS, read_pictures
from diffusion_jax.reporting.published import compare
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.untrusted import read_regular
from diffusion_jax.training.checkpoints import kept_steps
from launch.common import arguments, cli

FILE = "report.html"
MOST_GRIDS = 24
_CURVES = (  # field of metrics.jsonl, title, how to draw it
    ("loss", "Loss", {"smooth": True}),
    ("gradient_norm", "Gradient norm", {"smooth": True}),
    ("learning_rate", "Learning rate", {"from_zero": True}),
    ("fid", "FID of the samples", {}),
)


def write_report(workdir: Path) -> Path:
    """Writes the page of the run in `workdir` and returns its path.

    Raises:
      UserError: if there is no run, or what calls itself a result is none.
    """
    page = render(**_content(workdir))
    path = workdir / FILE
    write_atomically(path, lambda partial: partial.write_text(page))
    return path


def _content(workdir: Path) -> dict[str, Any]:
    """What the template names."""
    config, run = read_workdir(workdir), read_run(workdir)
    records, speeds = read_lines(workdir / METRICS), read_lines(workdir / SPEED)
    total = config.train.steps
    saved = max(kept_steps(workdir / "checkpoints"), default=0)
    done = max([saved, *(record["step"] for record in records)])
    finished = saved >= total
    status = f"{done:,} of {total:,} steps"
    if not finished:
        status += f", the newest checkpoint is of step {saved:,}" if saved else ", no checkpoint"
    found = find_results(workdir)
    where = {str(path.parent.relative_to(workdir)): result for path, result in found.items()}
    results = compare(run["config"], where, RESULTS) if found else []
    pictures = [
        (picture, inline(workdir / FOLDER / picture.file)) for picture in read_pictures(workdir)
    ]
    drawn = [_curve(records, field, title, **how) for field, title, how in _CURVES]
    return {
        "title": run["config"] or workdir.resolve().name,
        "finished": finished,
        "status": status,
        "facts": _facts(workdir, config, run, done, speeds),
        "curves": [curve for curve in drawn if curve],
        "grids": _grids(workdir / "grids"),
        **{
            section: [(picture, image) for picture, image in pictures if picture.section == section]
            for section in SECTIONS
        },
        "results": list(zip(*results, strict=True)),  # a column each: on a phone there are few
        "published": len(results) - 1 - len(found),
        "speed": _speed(speeds),
        "speed_curve": _curve(
            speeds, "images_per_second", "Images a second", smooth=True, from_zero=True
        ),
        **_config(config, run["config"]),
        "commands": _commands(workdir, config, run["command"], finished),
        "written": f"{datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
    }


def _facts(
    workdir: Path, config: ConfigDict, run: dict[str, str], done: int, speeds: list[dict]
) -> dict[str, str]:
    facts = {}
    table = workdir / "parameters.txt"
    if table.is_file():
        text = read_regular(table, 2**26).decode(errors="replace")
        total = re.search(r"Total: (\d[\d,]{,30})", text)
        if total:
            facts["parameters"] = f"{int(total[1].replace(',', '')) / 1e6:.2f}M"
    if data := read_data(workdir):
        facts["training examples"] = f"{data['examples']:,}"
    if start := read_start(workdir):
        facts["started from"] = f"{start.path}, at step {start.step:,}"
    facts["batch"] = f"{config.train.batch_size:,}"
    facts["examples seen"] = f"{done * config.train.batch_size:,}"
    if run["devices"]:
        facts["devices"] = run["devices"]
    if run["code"]:
        facts["code"] = run["code"]
    timed = [record for record in speeds if "step_seconds" in record]
    if timed:
        steps = np.diff([0, *(record["step"] for record in timed)])
        facts["time in training"] = _time(steps @ [record["step_seconds"] for record in timed])
    return facts


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _curve(records: list[dict], field: str, title: str, **how: bool) -> dict[str, str] | None:
    """A curve of two points or more, and the last value."""
    points = [(record["step"], record[field]) for record in records if field in record]
    if len(points) < 2:
        return None
    steps, values = zip(*points, strict=True)
    svg = draw_curve(steps, values, f"{title} over steps", **how)
    return {"title": title, "svg": svg, "last": f"{values[-1]:.4g} at the end"}


def _grids(folder: Path) -> list[tuple[int, Inline]]:
    """Sample grids by step, evenly chosen where there are many."""
    numbered = {path.stem: path for path in folder.glob("*.png")}
    steps = sorted((name for name in numbered if re.fullmatch("[0-9]+", name)), key=int)
    found = [(int(step), numbered[step]) for step in steps]
    chosen = [found[place] for place in evenly(len(found), MOST_GRIDS)]
    return [(step, inline(path)) for step, path in chosen]


def _speed(records: list[dict]) -> dict[str, str]:
    """Medians over the records: the first of them has the compilation in it."""

    def of(field: str) -> list[float]:
        return [record[field] for record in records if field in record]

    if not records:
        return {}
    saving = [seconds for seconds in of("checkpoint_seconds") if seconds]
    shown = {
        "images/s, median": ("images_per_second", "{:,.0f}", 1),
        "a step, median": ("step_seconds", "{:,.1f} ms", 1e3),
        "TFLOP/s of a device, median": ("tflops_per_second_per_chip", "{:,.3g}", 1),
        "of its peak (MFU), median": ("mfu", "{:.1%}", 1),
        "waiting for data, median": ("input_wait_fraction", "{:.1%} of the time", 1),
    }
    rows = {
        name: text.format(factor * statistics.median(values))
        for name, (field, text, factor) in shown.items()
        if (values := of(field))
    }
    if saving:
        rows["waiting for a checkpoint, median"] = f"{statistics.median(saving):.2f} s"
    for name, field in (
        ("memory of a device, at most", "device_peak_bytes"),
        ("memory of the host's process, at most", "host_peak_bytes"),
    ):
        if values := of(field):
            rows[name] = f"{max(values) / 2**30:.2f} GiB"
    return rows


def _config(config: ConfigDict, name: str) -> dict[str, Any]:
    """Fields that are not what the config's file says, and those that are not the defaults."""
    known = config.model.name in DEFAULTS
    defaults = base(DEFAULTS[config.model.name]() if known else config.model)
    file, colon, variants = name.partition(":")
    of_file = _config_of_file(file, *([variants] if colon else []))
    return {
        "file": f"configs/{file}.py{colon}{variants}" if of_file else "",
        "changed": _differing(config, of_file) if of_file else [],
        "unusual": _differing(config, defaults),
    }


def _config_of_file(name: str, *variants: str) -> ConfigDict | None:
    """What the file of this name says today, None where there is none, or no such variant.

    The name is what a run says: of any module, or of a file that was another then.
    """
    if not re.fullmatch(r"\w+/\w+", name):
        return None
    try:
        module = importlib.import_module("configs." + name.replace("/", "."))
        return module.get_config(*variants)
    except (ImportError, AttributeError, TypeError, UserError):
        return None


def _differing(config: ConfigDict, other: ConfigDict) -> list[tuple[str, Any, Any]]:
    """(name, value, other's value) of every field with another one, '' where there is none."""
    ours, theirs = (flatten(json.loads(each.to_json())) for each in (config, other))
    return [
        (field, ours.get(field, ""), theirs.get(field, ""))
        for field in [*ours, *(field for field in theirs if field not in ours)]
        if ours.get(field) != theirs.get(field)
    ]


def _commands(workdir: Path, config: ConfigDict, train: str, finished: bool) -> dict[str, str]:
    """What can be done next, by what it does."""
    at = f"--workdir={shlex.quote(str(workdir))}"
    commands = {}
    if train and finished:
        shorter = re.sub(r" --config\.train\.steps=\S+", "", train)
        longer = f"{shorter} --config.train.steps={2 * config.train.steps}"
        commands["Train for longer, here to twice the steps:"] = longer
    elif train:
        commands["Go on from where it stopped:"] = train
    commands["Draw samples:"] = f"python -m launch.sample {at} --num=64"
    commands["Draw how samples come out of noise, for this page:"] = (
        f"python -m launch.sample {at} --show=trajectory"
    )
    if config.model.geometry.kind == "images":
        commands["Look inside the network, for this page:"] = f"python -m launch.inspect {at}"
    commands["Measure loss by noise level, gradients and latents, for this page:"] = (
        f"python -m launch.diagnose {at}"
    )
    if config.data.name == "digits":
        commands["Score samples:"] = f"python -m launch.quickstart {at}"
    elif config.model.geometry.kind == "video":
        commands["Score samples by FVD:"] = f"python -m launch.evaluate_videos {at} --i3d=i3d.npz"
    else:
        files = {"reference": "reference.npz", "inception": "inception.npz"}
        given = [
            f"--{name}={shlex.quote(config.evaluation[name] or files[name])}" for name in files
        ]
        commands["Score samples, with files of launch.reference and of Inception's weights:"] = (
            f"python -m launch.evaluate {at} --num=50000 {' '.join(given)}"
        )
    commands["Make this page again:"] = f"python -m launch.report {at}"
    return commands


if __name__ == "__main__":
    arguments.folder("workdir", ".", "Run directory of launch.train.")
    cli.run(
        lambda: say(f"Written: {write_report(Path(flags.FLAGS.workdir))}"),
        __doc__,
        "workdir",
    )
