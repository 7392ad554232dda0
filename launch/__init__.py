"""The commands: `python -m launch.NAME` in a checkout, `rin-diffussm NAME` in any directory."""

import sys
from pathlib import Path

# Commands import `launch` and `configs`, and so do config files. Both lie beside each other, in a
# checkout at its top and installed in `rin_diffussm`, since everybody has packages of such names
# (see pyproject.toml). The folder that holds them comes first here, so that in a command these
# names are ours, whatever the working directory holds.
_HOME = str(Path(__file__).parents[1])
if sys.path[:1] != [_HOME]:
    sys.path.insert(0, _HOME)

if sys.argv[:1] == ["-m"]:  # a command
    from launch.common.starting import begin

    begin()
