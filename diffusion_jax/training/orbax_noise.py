"""Silence the tracebacks that Orbax prints besides raising an error: they would hide our one line.

Its threads log them, asyncio logs tasks that nobody awaited, and Python reports as unraisable the
coroutines that Orbax leaves behind and TensorStore's replies to their closed event loop.
"""

import logging
import sys
import warnings


def silence() -> None:
    """Drop these messages in this process; those that are not Orbax's are printed as before."""
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.msg)
    unawaited = "coroutine '_read_array_index_and_device_put' was never awaited"
    warnings.filterwarnings("ignore", unawaited, RuntimeWarning)
    hook = sys.unraisablehook

    def report(unraisable) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        left_behind = "orbax" in getattr(code, "co_filename", "")
        if not left_behind and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = report
