"""Records of a run: JSON lines of scalars, and TensorBoard event files that show images too."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary

from diffusion_jax.errors import UserError
from diffusion_jax.parallel.hosts import is_main
from diffusion_jax.reporting.events import EventFile
from diffusion_jax.reporting.trackers import Tracker
from diffusion_jax.storage.files import Appender, write_atomically
from diffusion_jax.storage.json_files import read_json_lines
from diffusion_jax.storage.schemas import RECORD

METRICS, SPEED = "metrics.jsonl", "speed.jsonl"


class MetricWriter:
    """Appends to metrics.jsonl, speed.jsonl and the event files of a run directory.

    If a run has several processes, only the main one writes.

    Args:
      workdir: the run directory.
      resume_step: records after this step are dropped, because the run computes them again.
      tracker: gets every record too; None for none. It is closed with the files.

    Raises:
      UserError: here, if the records so far are damaged; here and from every method, if nothing
        can be written.
    """

    def __init__(self, workdir: Path, resume_step: int, tracker: Tracker | None = None):
        self._tracker = tracker
        names = (METRICS, SPEED) if is_main() else ()
        self._files = {name: _reopen(workdir / name, resume_step) for name in names}
        self._events = EventFile(workdir / "tensorboard", resume_step + 1) if is_main() else None

    def write(self, step: int, values: Mapping[str, float | np.ndarray]) -> None:
        """Record values after `step` updates that do not depend on when they are computed.

        Args:
          values: scalars, and for TensorBoard alone images (H, W, 3) uint8.
        """
        images = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        scalars = {
            name: value for name, value in values.items() if not isinstance(value, np.ndarray)
        }
        if self._events:
            for name, image in images.items():
                self._events.add(summary.image(name, image, dataformats="HWC"), step)
        if images and self._tracker:
            self._tracker.write(step, {}, images)
        if scalars:
            self._write(METRICS, "", step, scalars)

    def write_speed(self, step: int, scalars: dict[str, float]) -> None:
        """Record how fast the run was until `step`."""
        self._write(SPEED, "speed/", step, scalars)

    def sync(self) -> None:
        """Return once all records are on the disk, where they survive a power loss."""
        for file in self._files.values():
            file.sync()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        if self._events:
            self._events.close()
        if self._tracker:
            self._tracker.close()

    def _write(self, file: str, prefix: str, step: int, scalars: dict[str, float]) -> None:
        if self._events is None:
            return
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise UserError(f"{name} is {value} at step {step}: a record must be finite")
        self._files[file].write((json.dumps({"step": step, **scalars}) + "\n").encode())
        for name, value in scalars.items():
            self._events.add(summary.scalar(prefix + name, value), step)
        if self._tracker:
            self._tracker.write(step, {prefix + name: scalars[name] for name in scalars}, {})


def _reopen(path: Path, resume_step: int) -> Appender:
    kept = [record for record in read_lines(path) if record["step"] <= resume_step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_atomically(path, lambda partial: partial.write_text(text))
    return Appender(path)


def read_lines(path: Path) -> list[dict[str, float]]:
    """Return the records of a metrics.jsonl; see `read_json_lines`."""
    return read_json_lines(path, RECORD)


def values_of(workdir: Path, name: str) -> dict[float, float]:
    """Return the values of a metric in a run's metrics.jsonl, by step."""
    records = read_lines(workdir / METRICS)
    return {record["step"]: record[name] for record in records if name in record}
