"""SIGTERM, as clusters send it before they take a machine away: stop after the step, saved."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def listening() -> Iterator[Callable[[int], bool]]:
    """Gives a function: whether to stop after `step` updates. All processes are told the same."""
    if jax.process_count() > 1:  # JAX listens, and agrees on a step that none has done yet
        yield multihost_utils.reached_preemption_sync_point
        return
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda step: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
