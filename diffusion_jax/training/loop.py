"""The training loop: steps, records, callbacks and checkpoints until the last step."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from diffusion_jax.console import progress
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


@dataclasses.dataclass
class Log:
    """Checks the metrics of every step, and records their means over intervals of steps.

    An interval starts after a record, or where the run was started or continued. With checkpoints
    at multiples of `every`, a killed run's records equal an uninterrupted run's; otherwise the
    first mean after a restart covers only the steps since.

    Attributes:
      writer: takes the records.
      speed: measures the run; it is read with every record.
      checkpoints: checkpoints of the run; a divergence names the last of them.
      every: steps in an interval.
      learning_rate: schedule, (step from 0) -> learning rate.
      loss: mean over the last interval.
    """

    writer: MetricWriter
    speed: Speedometer
    checkpoints: Checkpoints
    every: int
    learning_rate: optax.Schedule
    loss: float = math.nan
    _pending: tuple[int, StepMetrics] | None = None
    _interval: StepMetrics | None = None

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
        if step % self.every == 0:
            means = {name: float(mean) for name, mean in self._interval.compute().items()}
            self._interval, self.loss = None, means["loss"]
            means["learning_rate"] = float(self.learning_rate(step - 1))
            self.writer.write(step, means)
            if measured := self.speed.read():
                self.writer.write_speed(step, measured)


class Plan(NamedTuple):
    """How long to train, and what to do along the way.

    Attributes:
      total_steps: the last step.
      checkpoint_every: steps between checkpoints; the last step has one, too.
      callbacks: see `Callback`.
      must_stop: step -> whether to save after it and return.
    """

    total_steps: int
    checkpoint_every: int
    callbacks: Sequence[Callback]
    must_stop: Callable[[int], bool]

    def is_due(self, step: int, every: int) -> bool:
        """Return whether something due every `every` steps is due after `step`."""
        return step == self.total_steps or step % every == 0


def train(
    state: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, StepMetrics]],
    batches: Iterator[Any],
    log: Log,
    plan: Plan,
) -> TrainState:
    """Train from `state.step` to the last step, or until the run is asked to stop.

    Args:
      batches: the batches from `state.step` on, already on the devices.

    Returns:
      The last state, which has been saved.

    Raises:
      Diverged: at the first step whose loss or gradient is not finite. Its state is not saved.
    """
    first = int(state.step)
    for callback in plan.callbacks if first else ():
        if callback.catches_up and plan.is_due(first, callback.every):
            callback.call(first, state)
    if first == plan.total_steps:
        return state
    batch = next(batches)
    size = jax.tree.leaves(batch)[0].shape[0]
    with progress(plan.total_steps, "images", initial=first, each=size) as bar:
        for step in range(first + 1, plan.total_steps + 1):
            state, metrics = train_step(state, batch)  # returns at once; the devices are at work
            with log.speed.waiting("batch"):
                batch = next(batches)  # travels to the devices while the step runs
            log.add(step, metrics)  # looks at the step before, while this one runs
            bar.set_postfix(loss=f"{log.loss:.4f}", refresh=False)
            bar.update()

            stops = plan.must_stop(step)
            saves = stops or plan.is_due(step, plan.checkpoint_every)
            due = [callback for callback in plan.callbacks if plan.is_due(step, callback.every)]
            if due or saves:
                log.flush()  # no state is shown or saved before its metrics are known to be finite
            for callback in () if stops else due:
                if values := callback.call(step, state):
                    log.writer.write(step, values)
            if saves:  # after the callbacks: a run that is killed within one of them calls it again
                with log.speed.waiting("save"):
                    log.writer.sync()  # a checkpoint never outlasts the records that lead to it
                    log.checkpoints.save(step, state)
            if stops:
                break
    log.checkpoints.wait()
    return state


def _diagnosis(step: int, values: dict[str, float], last_good: int | None) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in values.items())
    back = f"the last good checkpoint is of step {last_good}" if last_good else "no checkpoint yet"
    return (
        f"training diverged at step {step} ({listed}); {back}. Likely causes: a learning rate too "
        "high or a warm-up too short for this batch size (lower config.optimizer.learning_rate), "
        "no gradient clipping (config.optimizer.clip_norm=1), or bad values in the data"
    )
