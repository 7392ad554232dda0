"""Options as a command parses them, without a process of its own."""

from collections.abc import Callable

from absl import flags


def parsed(define: Callable[[], object], *arguments: str) -> flags.FlagValues:
    """Return the options that `define` defines, parsed from arguments such as '--num=8'.

    absl defines them in its global flags, from which they are taken out again: each command has
    its own.
    """
    known = set(flags.FLAGS)
    define()
    values = flags.FlagValues()
    for name in set(flags.FLAGS) - known:
        values[name] = flags.FLAGS[name]
        delattr(flags.FLAGS, name)
    values(["a test", *arguments])
    return values
