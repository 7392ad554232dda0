"""How the commands are named in what is printed: as the user called them.

Texts in the code say `python -m launch.train`, as in a checkout. The console script has it read
`rin-diffussm train`, since an installation has no module of that name.
"""

import re
from collections.abc import Iterable

_commands: re.Pattern[str] | None = None  # those that the console script spells in its way


def spell_by_script(names: Iterable[str]) -> None:
    """Spell the commands of these names for the console script from now on."""
    global _commands
    _commands = re.compile(rf"(?<![\w./-])(?:python -m )?launch\.({'|'.join(names)})\b")


def spelt(text: str) -> str:
    """Return a text with the commands in it as the user calls them."""
    return _commands.sub(r"rin-diffussm \1", text) if _commands else text
