"""The commands, as `python -m launch.NAME` or, installed, as `rin-diffussm NAME`."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

if sys.argv[:1] == ["-m"]:  # a command, before the seconds that its imports take
    from launch.common.interrupts import end_while_starting

    end_while_starting()

if "configs" not in sys.modules:
    # `python -m` looks into the working directory first, and a user may well have a folder
    # `configs` there: ours is the one beside this package.
    _spec = PathFinder.find_spec("configs", [str(Path(__file__).parents[1])])
    assert _spec and _spec.loader, "configs is missing beside launch"
    sys.modules["configs"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["configs"])
