"""Save and stop on SIGTERM, which clusters send before they take a machine away, and on Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Stopped(Exception):
    """The run is asked to stop; raised on all its processes at the same point."""


class StopRequest:
    """A request to stop; as text it names the signal. See `listening`."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._checks = 0
        self._reached = False

    def check(self) -> None:
        """Raise `Stopped` if there is a request; every process of a run asks equally often."""
        self._checks += 1
        if jax.process_count() > 1:  # JAX agrees on a check that no process has come to yet
            reached = multihost_utils.reached_preemption_sync_point(self._checks)
        else:
            reached = bool(self._received)
        self._reached = self._reached or reached
        if self._reached:
            raise Stopped

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
def listening(request: StopRequest) -> Iterator[None]:
    """Have `request` receive the signals until the end of the block."""
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {
        number: signal.signal(number, request.receive)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup leaves it
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
