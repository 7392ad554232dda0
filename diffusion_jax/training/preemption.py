"""Stopping after a step, saved: on SIGTERM, as clusters send it before they take a machine away,
and on Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """Whether somebody has asked the training to stop, and as a text who.

    Called with a step, it says whether to stop after so many updates. All processes of a run are
    told the same.
    """

    def __init__(self) -> None:
        self._received: list[int] = []

    def __call__(self, step: int) -> bool:
        if jax.process_count() > 1:  # JAX listens, and agrees on a step that none has done yet
            return multihost_utils.reached_preemption_sync_point(step)
        return bool(self._received)

    def __str__(self) -> str:
        return "Ctrl-C" if signal.SIGINT in self._received[:1] else "SIGTERM"

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        self._received.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends it
            if jax.process_count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Gives a `StopRequest` that hears the signals until the end of the block."""
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
