"""Scalars of a run: one JSON line per record, and the same as TensorBoard event files.

Sample grids go to the event files too.
"""

import json
from pathlib import Path
from typing import TextIO

import numpy as np
import tensorboardX

from diffusion_jax.files import write_atomically
from diffusion_jax.hosts import is_main

METRICS, SPEED = "metrics.jsonl", "speed.jsonl"


class MetricWriter:
    """Appends to `metrics.jsonl`, `speed.jsonl` and the event files of a run directory.

    Of several processes of one run, the main one alone writes.

    Args:
      workdir: the run directory.
      resume_step: records after this step are dropped, for the run computes them again.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._events = None
        if not is_main():
            return
        self._files = {name: _reopen(workdir / name, resume_step) for name in (METRICS, SPEED)}
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=resume_step + 1
        )

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
            self._events.add_image(name, image, step, dataformats="HWC")

    def _write(self, file: str, prefix: str, step: int, scalars: dict[str, float]) -> None:
        if self._events is None:
            return
        self._files[file].write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Flushes and closes all."""
        if self._events is not None:
            for file in self._files.values():
                file.close()
            self._events.close()


def _reopen(path: Path, resume_step: int) -> TextIO:
    kept = [line for line in read_lines(path) if line["step"] <= resume_step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_atomically(path, lambda partial: partial.write_text(text))
    return path.open("a", buffering=1)


def read_lines(path: Path) -> list[dict[str, float]]:
    """The records of a metrics.jsonl, without a last line that a killed run left incomplete."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
