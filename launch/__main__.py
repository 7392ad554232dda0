"""All commands under one name:

    rin-diffussm train --config=rin/digits --workdir=runs/digits
    rin-diffussm train --help

is the same as `python -m launch.train` in a checkout, and works in any directory.
"""

from launch.common.starting import begin

import ast
import os
import runpy
import signal
import sys
from pathlib import Path

from diffusion_jax.errors import nearest
from diffusion_jax.spelling import spell_by_script

COMMANDS = {path.stem: path for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))}


def about(command: Path) -> str:
    """Return the first line of a command's documentation."""
    return (ast.get_docstring(ast.parse(command.read_text())) or "").partition("\n")[0]


def main() -> None:
    """Run the command that the first argument names; list all for --help."""
    begin()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-help", "-h"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # of `| head`
        print("\n".join([__doc__, *(f"    {n:18}{about(path)}" for n, path in COMMANDS.items())]))
        return
    if name not in COMMANDS:
        print(f"error: no command {name!r}: {nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.path.append(os.getcwd())  # for a network of one's own, found as with `python -m`, but last
    sys.argv[:2] = [name]
    spell_by_script(COMMANDS)
    runpy.run_module(f"launch.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
