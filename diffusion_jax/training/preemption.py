"""Save and stop on SIGTERM, which clusters send before they take a machine away, and on Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """A request to stop; as text it names the signal.

    Called with a step, it returns whether to stop after that step, and the same on all processes
    of a run.
    """

    def __init__(self) -> None:
        self._received: list[int] = []

    def __call__(self, step: int) -> bool:
        if jax.process_count() > 1:  # JAX agrees on a step that no process has made yet
            return multihost_utils.reached_preemption_sync_point(step)
        return bool(self._received)

    def __str__(self) -> str:
        return "Ctrl-C" if signal.SIGINT in self._received[:1] else "SIGTERM"

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._received.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one kills us
            if jax.process_count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Yield a `StopRequest` that receives the signals until the end of the block."""
    request = StopRequest()
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {
        number: signal.signal(number, request.receive)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup leaves it
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
