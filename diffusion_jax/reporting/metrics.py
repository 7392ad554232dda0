"""Scalars of a run: one JSON line per record, and the same as TensorBoard event files."""

import json
from pathlib import Path

import tensorboardX

from diffusion_jax.files import write_atomically


class MetricWriter:
    """Appends to `metrics.jsonl` and to the event files of a run directory.

    Args:
      workdir: the run directory.
      resume_step: records after this step are dropped, for the run computes them again.
    """

    def __init__(self, workdir: Path, resume_step: int):
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_lines(path) if line["step"] <= resume_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(path, lambda partial: partial.write_text(text))
        self._file = path.open("a", buffering=1)
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=resume_step + 1
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Records scalars after `step` updates."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


def read_lines(path: Path) -> list[dict[str, float]]:
    """The records of a metrics.jsonl, without a last line that a killed run left incomplete."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
