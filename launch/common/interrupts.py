"""Ctrl-C in a command: one line and exit status 130, however deep in a library it is met.

Every command can be killed at any moment and goes on from what is done, so that ending at once
loses nothing. `diffusion_jax.training.preemption` has training save first.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STATUS = 128 + signal.SIGINT  # as shells report it
MESSAGE = "Interrupted: the same command goes on from what is done."


def end_at_once(number: int = 0, frame: FrameType | None = None) -> None:
    """Say so and end the process, whatever it is in the middle of."""
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(STATUS)


def end_while_starting() -> None:
    """Make Ctrl-C end the process at once, as long as nothing has been begun."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup has it ignored
        signal.signal(signal.SIGINT, end_at_once)


@contextlib.contextmanager
def second_ends_at_once() -> Iterator[None]:
    """Give a block the usual KeyboardInterrupt; a second Ctrl-C ends the process at once.

    Python handles a signal when the call that it is in returns, and one to XLA may take minutes.
    The second is therefore noticed by a thread.
    """
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    threading.Thread(target=_count, args=(reading,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        end_while_starting()


def _count(reading: int) -> None:
    """End the process at the second SIGINT; return when the pipe is closed."""
    count = 0
    while numbers := os.read(reading, 64):
        count += numbers.count(signal.SIGINT)
        if count >= 2:
            end_at_once()
    os.close(reading)
