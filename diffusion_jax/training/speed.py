"""How fast a run is: measured between records, and kept apart from its curve."""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax


class Speedometer:
    """Measures the time of steps, and what of it goes into waiting.

    Args:
      batch_size: examples in a step.
      flops: FLOPs of a step over all devices, recomputation in the backward pass left out.
      peak: peak FLOP/s of a device, None where it is not known.
    """

    def __init__(self, batch_size: int, flops: float, peak: float | None):
        self.batch_size, self._flops, self._peak = batch_size, flops, peak
        self._reset()

    def _reset(self) -> None:
        self._start, self._steps = time.perf_counter(), 0
        self._waited = {"batch": 0.0, "save": 0.0}  # seconds

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time in the block as waiting for a "batch", which a step does, or a "save"."""
        began = time.perf_counter()
        yield
        self._waited[what] += time.perf_counter() - began
        self._steps += what == "batch"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time in the block out: it is not that of steps."""
        began = time.perf_counter()
        yield
        self._start += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Return means since the last reading; empty before the first step."""
        if not self._steps:
            return {}
        elapsed = time.perf_counter() - self._start
        step_seconds, devices = elapsed / self._steps, jax.device_count()
        flops = self._flops / step_seconds / devices
        found = {
            "step_seconds": step_seconds,
            "images_per_second": self.batch_size / step_seconds,
            "images_per_second_per_chip": self.batch_size / step_seconds / devices,
            "tflops_per_second_per_chip": flops / 1e12,
            "input_wait_fraction": self._waited["batch"] / elapsed,
            "checkpoint_seconds": self._waited["save"],
            **_peak_memory(),
        }
        if self._peak:
            found["mfu"] = flops / self._peak
        self._reset()
        return found


def _peak_memory() -> dict[str, int]:
    """Return the peak memory in bytes of this process, and of its devices where they report it."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if peaks := [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]:
        found["device_peak_bytes"] = max(peaks)
    return found


def profiled(train_step: Callable, first: int, last: int, folder: Path) -> Callable:
    """Return `train_step`, which traces its calls `first` to `last` (from 1) for XProf."""
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
