"""What Orbax prints of an error besides raising it: many tracebacks, which would hide our line.

Its threads log them, asyncio logs tasks that nobody waited for, and Python reports as unraisable
the coroutines that Orbax left behind and the replies of TensorStore to their closed event loop.
"""

import logging
import sys
import warnings


def silence() -> None:
    """Drops these, in this process; what is not Orbax's is printed as before."""
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
