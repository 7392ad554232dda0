"""Facts about a run in a few words each: its size, how far it came, its speed and memory."""

import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.experiment.start import read_start
from diffusion_jax.experiment.workdir import read_data, read_run, read_workdir
from diffusion_jax.reporting.metrics import METRICS, SPEED, read_lines
from diffusion_jax.storage.untrusted import read_regular
from diffusion_jax.training.checkpoints import kept_steps

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


class RunRecord(NamedTuple):
    """What a run directory says of a run.

    Attributes:
      workdir: the run directory.
      config: its config.
      about: run.json: 'config', 'command', 'code' and 'devices', '' where not known.
      records, speeds: the lines of metrics.jsonl and speed.jsonl.
      saved: step of the newest checkpoint, 0 for none.
    """

    workdir: Path
    config: ConfigDict
    about: Mapping[str, str]
    records: list[dict]
    speeds: list[dict]
    saved: int

    @property
    def name(self) -> str:
        """The name of its config, or else of its folder."""
        return self.about["config"] or self.workdir.resolve().name

    @property
    def done(self) -> int:
        """The last step that anything is known of."""
        return max([self.saved, *(int(record["step"]) for record in self.records)])

    @property
    def is_finished(self) -> bool:
        """Whether its last step is saved."""
        return self.saved >= self.config.train.steps

    @property
    def status(self) -> str:
        """How far it came, in words."""
        status = f"{self.done:,} of {self.config.train.steps:,} steps"
        if self.is_finished:
            return status
        if not self.saved:
            return f"{status}, no checkpoint"
        return f"{status}, the newest checkpoint is of step {self.saved:,}"


def read_record(workdir: Path) -> RunRecord:
    """Read a run directory.

    Raises:
      UserError: if there is no run, or one of its files is damaged.
    """
    return RunRecord(
        workdir,
        read_workdir(workdir),
        read_run(workdir),
        read_lines(workdir / METRICS),
        read_lines(workdir / SPEED),
        max(kept_steps(workdir / "checkpoints"), default=0),
    )


def facts_of(run: RunRecord) -> dict[str, str]:
    """Return what stands at the top of the page, by its name; what is not known is left out."""
    data, start = read_data(run.workdir), read_start(run.workdir)
    batch_size = run.config.train.batch_size
    timed = [record for record in run.speeds if "step_seconds" in record]
    steps = np.diff([0, *(record["step"] for record in timed)])
    seconds = steps @ np.array([record["step_seconds"] for record in timed])
    facts = {
        "parameters": _parameters(run.workdir / "parameters.txt"),
        "training examples": f"{data['examples']:,}" if data else "",
        "started from": f"{start.path}, at step {start.step:,}" if start else "",
        "batch": f"{batch_size:,}",
        "examples seen": f"{run.done * batch_size:,}",
        "devices": run.about["devices"],
        "code": run.about["code"],
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


def speed_of(records: list[dict]) -> dict[str, str]:
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
