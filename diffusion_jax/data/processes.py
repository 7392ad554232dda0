"""Map a function over tasks in several processes."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from diffusion_jax.errors import UserError

_work: Callable[[Any], Any]  # of a worker process, by `_start`


def map_unordered(
    function: Callable[[Any], Any], tasks: Iterable[Any], workers: int
) -> Iterator[Any]:
    """Yield results as they come. `function` is pickled once for each process.

    Processes are spawned, for a fork after JAX has started deadlocks. They end at once when this
    one fails, is interrupted or killed. With one worker, it all happens in this process.

    Raises:
      UserError: if a process is killed; or what `function` raises.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pulse, alive = context.Pipe(duplex=False)  # nothing is sent: its end says that we are gone
    pool = ProcessPoolExecutor(workers, context, _start, (function, pulse))
    try:
        with _uninterrupted():
            futures = [pool.submit(_call, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for want of memory: take fewer workers and give "
            "the same command, which continues"
        ) from error
    except BaseException:
        alive.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        alive.close()
        pulse.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block; processes that are started in it never hear it.

    One that is interrupted while it is started complains at length.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which processes inherit
    before = signal.signal(signal.SIGINT, lambda *_: received.append(True))  # of another thread
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if received and before is not signal.SIG_IGN:
        raise KeyboardInterrupt


def _start(function: Callable[[Any], Any], pulse: Connection) -> None:
    global _work
    _work = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_end_with_parent, args=(pulse,), daemon=True).start()


def _end_with_parent(pulse: Connection) -> None:
    pulse.poll(None)
    os._exit(1)


def _call(task: Any) -> Any:
    return _work(task)
