"""The training loop: steps, records, checkpoints and callbacks until the last step."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from diffusion_jax.console import pace, progress, say, shows_bars
from diffusion_jax.errors import UserError
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.metrics import MetricWriter
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.preemption import Stopped
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
      is_done: step -> whether the results of the call after `step` updates are there. A run that
        continues from such a step calls it first if they are not, since it may have been stopped
        after the checkpoint and before they were. Only the main process is asked.
    """

    every: int
    call: Callable[[int, TrainState], Mapping[str, float | np.ndarray] | None]
    is_done: Callable[[int], bool]


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
      total_steps: the last step.
      learning_rate: schedule, (step from 0) -> learning rate.
      loss: mean over the last interval.
    """

    writer: MetricWriter
    speed: Speedometer
    checkpoints: Checkpoints
    every: int
    total_steps: int
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
            if not shows_bars():
                say(self._line(step, measured))

    def _line(self, step: int, measured: Mapping[str, float]) -> str:
        """Return the line that stands for the bar in a log."""
        line = f"step {step:,} of {self.total_steps:,}: loss {self.loss:.4f}"
        if not measured:
            return line
        remaining = measured["step_seconds"] * (self.total_steps - step)
        return f"{line}, {pace(measured['images_per_second'], 'images', remaining)}"


class Plan(NamedTuple):
    """How long to train, and what to do along the way.

    Attributes:
      total_steps: the last step.
      checkpoint_every: steps between checkpoints; the last step has one, too.
      callbacks: see `Callback`. They may raise `Stopped`, too.
      check_stop: raises `Stopped` if the run is asked to stop.
    """

    total_steps: int
    checkpoint_every: int
    callbacks: Sequence[Callback]
    check_stop: Callable[[], None]

    def saves(self, step: int) -> bool:
        """Return whether a checkpoint is due after `step`."""
        return step == self.total_steps or step % self.checkpoint_every == 0

    def due(self, step: int) -> list[Callback]:
        """Return the callbacks that are due after `step`."""
        last = step == self.total_steps
        return [callback for callback in self.callbacks if last or step % callback.every == 0]


def train(
    state: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, StepMetrics]],
    batches: Iterator[Any],
    log: Log,
    plan: Plan,
) -> tuple[TrainState, bool]:
    """Train from `state.step` to the last step, or until the run is asked to stop.

    A step is saved before its callbacks are called: what they take hours for is never waited for
    by the state.

    Args:
      batches: the batches from `state.step` on, already on the devices.

    Returns:
      The last state, which has been saved, and whether nothing is left to do: neither steps nor
      callbacks.

    Raises:
      Diverged: at the first step whose loss or gradient is not finite. Its state is not saved.
    """
    step = first = int(state.step)
    saved = log.checkpoints.latest()

    def save() -> None:
        nonlocal saved
        with log.speed.waiting("save"):
            log.writer.sync()  # a checkpoint never outlasts the records that lead to it
            log.checkpoints.save(step, state)
            saved = step

    def call(callbacks: Sequence[Callback]) -> None:
        with log.speed.paused():
            for callback in callbacks:
                if values := callback.call(step, state):
                    log.writer.write(step, values)

    finished = True
    try:
        if saved == first:  # where the run may have been stopped before the calls
            call([callback for callback in plan.due(first) if not _is_done(callback, first)])
        if first < plan.total_steps:
            batch = next(batches)
            say("Compiling the train step...")
        size = log.speed.batch_size
        with progress(plan.total_steps, "images", initial=first, each=size, lines=False) as bar:
            for step in range(first + 1, plan.total_steps + 1):
                compiling = log.speed.paused() if step == first + 1 else nullcontext()
                with compiling:
                    state, metrics = train_step(state, batch)  # returns: the devices are at work
                with log.speed.waiting("batch"):
                    batch = next(batches)  # travels to the devices while the step runs
                log.add(step, metrics)  # looks at the step before, while this one runs
                bar.set_postfix(loss=f"{log.loss:.4f}", refresh=False)
                bar.update()

                plan.check_stop()
                due, saves = plan.due(step), plan.saves(step)
                if due or saves:
                    log.flush()  # no state is shown or saved before its metrics are finite
                if saves:
                    save()
                call(due)
    except Stopped:
        finished = False
        if saved != step:
            log.flush()
            save()
    log.checkpoints.wait()
    return state, finished


def _is_done(callback: Callback, step: int) -> bool:
    return hosts.main_decides(functools.partial(callback.is_done, step))


def _diagnosis(step: int, values: dict[str, float], last_good: int | None) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in values.items())
    back = f"the last good checkpoint is of step {last_good}" if last_good else "no checkpoint yet"
    return (
        f"training diverged at step {step} ({listed}); {back}. Likely causes: a learning rate too "
        "high or a warm-up too short for this batch size (lower config.optimizer.learning_rate), "
        "no gradient clipping (config.optimizer.clip_norm=1), or bad values in the data"
    )
