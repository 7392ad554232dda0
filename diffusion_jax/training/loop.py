"""The training loop: steps, records, callbacks and checkpoints until the last step."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

from diffusion_jax.errors import UserError
from diffusion_jax.reporting.metrics import MetricWriter
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.speed import Speedometer
from diffusion_jax.training.state import TrainState
from diffusion_jax.training.step import StepMetrics


class Diverged(UserError):
    """The loss or the gradient is no longer finite."""


class Callback(NamedTuple):
    """Something that a run does beside training.

    Attributes:
      every: it is called after steps that are multiples of this, and after the last.
      call: (step, state) -> values to record: scalars, or images (H, W, 3) uint8; None for none.
      catches_up: it is also called when a run continues from such a step, since the run may have
        been stopped there before the call.
    """

    every: int
    call: Callable[[int, TrainState], Mapping[str, float | np.ndarray] | None]
    catches_up: bool = False


class Log:
    """Checks the metrics of every step, and records their means over intervals of steps.

    An interval starts after a record, or where the run was started or continued. If checkpoints
    are written at multiples of `every`, a run that was killed therefore records what an
    uninterrupted one does; if not, the first mean after a restart covers only the steps since.

    Args:
      writer: takes the records.
      speed: measures the run; it is read with every record.
      checkpoints: checkpoints of the run; a divergence names the last of them.
      every: steps in an interval.
      learning_rate: schedule, (step from 0) -> learning rate.
    """

    def __init__(
        self,
        writer: MetricWriter,
        speed: Speedometer,
        checkpoints: Checkpoints,
        every: int,
        learning_rate: optax.Schedule,
    ):
        self.writer, self.speed, self.checkpoints = writer, speed, checkpoints
        self.loss = math.nan  # of the last record
        self._every, self._learning_rate = every, learning_rate
        self._pending: tuple[int, StepMetrics] | None = None
        self._interval: StepMetrics | None = None

    def add(self, step: int, metrics: StepMetrics) -> None:
        """Keep the metrics of a step that may still run, and look at those of the step before."""
        self.flush()
        self._pending = step, metrics

    def flush(self) -> None:
        """Wait for the last step and look at its metrics.

        Raises:
          Diverged: if one of them is not finite.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        metrics = jax.device_get(metrics)  # from here on NumPy: no device is asked for a sum
        values = {name: float(value) for name, value in metrics.compute().items()}
        if not all(map(math.isfinite, values.values())):
            raise Diverged(_diagnosis(step, values, self.checkpoints.latest()))
        self._interval = self._interval.merge(metrics) if self._interval else metrics
        if step % self._every == 0:
            self._record(step, self._interval)
            self._interval = None

    def _record(self, step: int, interval: StepMetrics) -> None:
        means = {name: float(value) for name, value in interval.compute().items()}
        self.loss = means["loss"]
        self.writer.write(step, means | {"learning_rate": float(self._learning_rate(step - 1))})
        if measured := self.speed.read():
            self.writer.write_speed(step, measured)


def train(
    state: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, StepMetrics]],
    batches: Iterator[Any],
    log: Log,
    callbacks: Sequence[Callback],
    *,
    total_steps: int,
    checkpoint_every: int,
    must_stop: Callable[[int], bool],
) -> TrainState:
    """Train from `state.step` to `total_steps`, or until the run is asked to stop.

    Args:
      batches: the batches from `state.step` on, already on the devices.
      log: records metrics, and holds the checkpoints.
      must_stop: step -> whether to save after it and return.

    Returns:
      The last state, which has been saved.

    Raises:
      Diverged: at the first step whose loss or gradient is not finite. Its state is not saved.
    """

    def is_due(step: int, every: int) -> bool:
        return step == total_steps or step % every == 0

    first = int(state.step)
    for callback in callbacks if first else ():
        if callback.catches_up and is_due(first, callback.every):
            callback.call(first, state)
    if first == total_steps:
        return state
    batch = next(batches)
    bar = _progress(first, total_steps, jax.tree.leaves(batch)[0].shape[0])
    for step in bar:
        state, metrics = train_step(state, batch)  # returns at once; the devices are at work
        with log.speed.waiting_for_batch():
            batch = next(batches)  # travels to the devices while the step runs
        log.add(step, metrics)  # looks at the step before, while this one runs
        bar.set_postfix(loss=f"{log.loss:.4f}", refresh=False)

        stops = must_stop(step)
        saves = stops or is_due(step, checkpoint_every)
        due = [callback for callback in callbacks if is_due(step, callback.every)]
        if due or saves:
            log.flush()  # no state is shown or saved before its own metrics are known to be finite
        for callback in () if stops else due:
            if values := callback.call(step, state):
                log.writer.write(step, values)
        if saves:  # after the callbacks: a run that is killed within one of them calls it again
            with log.speed.saving():
                log.writer.sync()  # a checkpoint never outlasts the records that lead to it
                log.checkpoints.save(step, state)
        if stops:
            break
    log.checkpoints.wait()
    return state


def _progress(first: int, total: int, batch_size: int) -> tqdm:
    """Return the steps to do, 1 being the first of a run; on a terminal with a bar of images."""
    return tqdm(
        range(first + 1, total + 1),
        initial=first,
        total=total,
        unit=" images",
        unit_scale=batch_size,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


def _diagnosis(step: int, values: dict[str, float], last_good: int | None) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in values.items())
    back = f"the last good checkpoint is of step {last_good}" if last_good else "no checkpoint yet"
    return (
        f"training diverged at step {step} ({listed}); {back}. Likely causes: a learning rate too "
        "high or a warm-up too short for this batch size (lower config.optimizer.learning_rate), "
        "no gradient clipping (config.optimizer.clip_norm=1), or bad values in the data"
    )
