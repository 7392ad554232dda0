"""How fast a run is, for its operators: measured between records, and never part of its curve."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class Speedometer:
    """Times between two readings.

    Args:
      batch_size: examples of a step.
      flops: of a step, on all devices, without what is computed again in the backward pass.
      peak: FLOP/s of a device at most, None where it is not known.
    """

    def __init__(self, batch_size: int, flops: float, peak: float | None):
        self._batch_size, self._flops, self._peak = batch_size, flops, peak
        self._start, self._steps, self._waited = time.perf_counter(), 0, 0.0
        self.checkpoint_seconds = 0.0

    def count_step(self, waited: float) -> None:
        """One more step, which waited so many seconds for its batch."""
        self._steps += 1
        self._waited += waited

    def read(self) -> dict[str, float]:
        """Means since the last reading; empty before the first step."""
        if not self._steps:
            return {}
        elapsed = time.perf_counter() - self._start
        step_seconds, devices = elapsed / self._steps, jax.device_count()
        flops = self._flops / step_seconds / devices
        found = {
            "step_seconds": step_seconds,
            "images_per_second": self._batch_size / step_seconds,
            "images_per_second_per_chip": self._batch_size / step_seconds / devices,
            "tflops_per_second_per_chip": flops / 1e12,
            "input_wait_fraction": self._waited / elapsed,
            "checkpoint_seconds": self.checkpoint_seconds,
            **_peak_memory(),
        }
        if self._peak:
            found["mfu"] = flops / self._peak
        self._start, self._steps, self._waited = time.perf_counter(), 0, 0.0
        self.checkpoint_seconds = 0.0
        return found


def _peak_memory() -> dict[str, int]:
    """Most bytes that a device of this process held so far, where devices tell, and the process."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if peaks := [of["peak_bytes_in_use"] for of in stats if "peak_bytes_in_use" in of]:
        found["device_peak_bytes"] = max(peaks)
    return found


def profiled(train_step: Callable, first: int, last: int, folder: Path) -> Callable:
    """`train_step`, whose calls `first` to `last`, from 1, are traced for XProf into a folder."""
    calls = 0

    def step(state: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
        nonlocal calls
        calls += 1
        if calls == first:
            jax.profiler.start_trace(folder)
        result = train_step(state, batch)
        if calls == last:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
        return result

    return step
