"""The training loop: from the newest checkpoint to the last step."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from tqdm import tqdm

from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError
from diffusion_jax.reporting.metrics import MetricWriter
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.speed import Speedometer
from diffusion_jax.training.state import TrainState

Callback = Callable[[int, TrainState], dict[str, float] | None]


class Diverged(UserError):
    """Loss or gradient stopped being finite."""


def train(
    state: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]],
    stream: Stream,
    put: Callable[[Any], Any],
    checkpoints: Checkpoints,
    writer: MetricWriter,
    speed: Speedometer,
    *,
    total_steps: int,
    log_every: int,
    checkpoint_every: int,
    learning_rate: Callable[[int], jax.Array],
    callbacks: Sequence[tuple[int, Callback]],
    must_stop: Callable[[int], bool],
) -> TrainState:
    """Trains from `state.step` to `total_steps`, or until it must stop.

    The metrics of a step are looked at while the next one runs. A checkpoint is written only of a
    state whose own metrics are finite.

    Args:
      put: sends a batch to the devices.
      learning_rate: step -> learning rate, for the records.
      callbacks: (every so many steps, and after the last; what is called with (step, state), and
        may return scalars to be recorded).
      must_stop: step -> whether to save and return after it.

    Raises:
      Diverged: at the first loss or gradient that is not finite.
    """
    pending = None
    start = int(state.step)
    batches = map(put, stream.batches(start)) if start < total_steps else iter(())
    batch = next(batches, None)
    steps = _progress(start, total_steps, stream.batch_size)
    for step in steps:
        state, metrics = train_step(state, batch)
        asked = time.perf_counter()
        batch = next(batches)  # travels to the devices while the step runs
        speed.count_step(time.perf_counter() - asked)
        if pending:
            _record(*pending, writer, checkpoints, speed, steps, log_every, learning_rate)
        pending = (step + 1, metrics)
        stops = must_stop(step + 1)

        def is_due(every: int, step=step) -> bool:
            return step + 1 == total_steps or (step + 1) % every == 0

        due = [callback for every, callback in callbacks if is_due(every)]
        saves = stops or is_due(checkpoint_every)
        if due or saves:
            _record(*pending, writer, checkpoints, speed, steps, log_every, learning_rate)
            pending = None
        for callback in () if stops else due:
            if scalars := callback(step + 1, state):
                writer.write(step + 1, scalars)
        if saves:  # last: a run stopped before it calls them again
            began = time.perf_counter()
            writer.sync()  # a checkpoint never outlasts the records that lead to it
            checkpoints.save(step + 1, state)
            speed.checkpoint_seconds += time.perf_counter() - began
        if stops:
            break
    checkpoints.wait()
    return state


def _progress(start: int, total: int, batch_size: int) -> tqdm:
    """Steps to do; on a terminal a bar that counts images."""
    return tqdm(
        range(start, total),
        initial=start,
        total=total,
        unit=" images",
        unit_scale=batch_size,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


def _record(step, metrics, writer, checkpoints, speed, steps, log_every, learning_rate) -> None:
    """Checks the metrics of a step, and writes them if their turn has come."""
    scalars = {name: float(value) for name, value in metrics.items()}
    if not all(math.isfinite(value) for value in scalars.values()):
        raise Diverged(_diagnosis(step, scalars, checkpoints.latest()))
    if step % log_every == 0:
        scalars["learning_rate"] = float(learning_rate(step - 1))
        writer.write(step, scalars)
        if measured := speed.read():
            writer.write_speed(step, measured)
        steps.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)


def _diagnosis(step: int, scalars: dict[str, float], last_good: int | None) -> str:
    values = ", ".join(f"{name} {value}" for name, value in scalars.items())
    back = f"the last good checkpoint is of step {last_good}" if last_good else "no checkpoint yet"
    return (
        f"training diverged at step {step} ({values}); {back}. Likely causes: a learning rate too "
        "high or a warm-up too short for this batch size (lower config.optimizer.learning_rate), "
        "no gradient clipping (config.optimizer.clip_norm=1), or bad values in the data"
    )
