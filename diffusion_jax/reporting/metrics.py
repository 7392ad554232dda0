"""Scalars of a run: one JSON line per record, and the same as TensorBoard event files.

Sample grids go to the event files too.
"""

import json
import math
from pathlib import Path

import numpy as np
from tensorboardX import summary

from diffusion_jax.errors import UserError
from diffusion_jax.parallel.hosts import is_main
from diffusion_jax.reporting.events import EventFile
from diffusion_jax.storage.files import Appender, write_atomically
from diffusion_jax.storage.json_files import read_json_lines
from diffusion_jax.storage.schemas import RECORD

METRICS, SPEED = "metrics.jsonl", "speed.jsonl"


class MetricWriter:
    """Appends to `metrics.jsonl`, `speed.jsonl` and the event files of a run directory.

    Of several processes of one run, the main one alone writes.

    Args:
      workdir: the run directory.
      resume_step: records after this step are dropped, for the run computes them again.

    Raises:
      UserError: here, if the records so far are damaged; here and from every method, if nothing
        can be written.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._events = None
        if not is_main():
            return
        self._files = {name: _reopen(workdir / name, resume_step) for name in (METRICS, SPEED)}
        self._events = EventFile(workdir / "tensorboard", resume_step + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Records scalars after `step` updates, which are the same whenever they are computed."""
        self._write(METRICS, "", step, scalars)

    def write_speed(self, step: int, scalars: dict[str, float]) -> None:
        """Records how fast the run was until `step`."""
        self._write(SPEED, "speed/", step, scalars)

    def write_image(self, step: int, name: str, image: np.ndarray | None) -> None:
        """Show an image in TensorBoard.

        Args:
          image: (H, W, 3) uint8; only the main process, which writes it, need have it.
        """
        if self._events is not None:
            self._events.add(summary.image(name, image, dataformats="HWC"), step)

    def sync(self) -> None:
        """Returns once all records are on the disk, where they outlast a power loss."""
        if self._events is not None:
            for file in self._files.values():
                file.sync()

    def _write(self, file: str, prefix: str, step: int, scalars: dict[str, float]) -> None:
        if self._events is None:
            return
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise UserError(f"{name} is {value} at step {step}: a record must be finite")
        self._files[file].write((json.dumps({"step": step, **scalars}) + "\n").encode())
        for name, value in scalars.items():
            self._events.add(summary.scalar(prefix + name, value), step)

    def close(self) -> None:
        """Closes all files."""
        if self._events is not None:
            for file in (*self._files.values(), self._events):
                file.close()


def _reopen(path: Path, resume_step: int) -> Appender:
    kept = [record for record in read_lines(path) if record["step"] <= resume_step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_atomically(path, lambda partial: partial.write_text(text))
    return Appender(path)


def read_lines(path: Path) -> list[dict[str, float]]:
    """Returns the records of a metrics.jsonl; see `read_json_lines`."""
    return read_json_lines(path, RECORD)
