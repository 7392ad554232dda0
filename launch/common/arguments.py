"""Options of the commands, each with the rule that its value must follow.

The rules are those of `diffusion_jax.fields`; a value that breaks one ends the command in one line.
Options that are a switch or one of a few words are defined with absl itself.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

from absl import flags

from diffusion_jax.data.images import LARGEST_SIDE
from diffusion_jax.errors import UserError
from diffusion_jax.fields import COUNT, LARGEST, SEED, Choice, Each, Location, Number, Rule

flags.disclaim_key_flags()  # an option belongs to the module that defines it, in its --help


_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclasses.dataclass(frozen=True)
class Size:
    """The rule of a size in bytes: a number and its unit."""

    def __call__(self, name: str, value: str) -> int:
        """Return the bytes. Raises `UserError` for anything but a number and a unit."""
        if not (found := re.fullmatch(r"(\d{1,9})(KiB|MiB|GiB)", value)):
            raise UserError(f"{name} is {value!r}: give a number and KiB, MiB or GiB, as 2GiB")
        return int(found[1]) * _UNITS[found[2]]


class _Parser(flags.ArgumentParser):
    """Turns the text of an option into a value that follows the option's rule."""

    def __init__(self, name: str, rule: Rule):
        self._name, self._rule = f"--{name}", rule

    def flag_type(self) -> str:
        """Return the rule, for --helpfull and --helpxml."""
        return repr(self._rule)

    def parse(self, argument: Any) -> Any:
        """Return the value. Raises `UserError` if it breaks the rule."""
        return self._rule(self._name, _read(argument, self._rule))


def _read(argument: Any, rule: Rule) -> Any:
    """The number, list or text that an argument stands for; text where it is no number."""
    if not isinstance(argument, str) or isinstance(rule, Location | Choice | Size):
        return argument
    if isinstance(rule, Each):
        return [_read(part.strip(), rule.rule) for part in argument.split(",") if part.strip()]
    for kind in (int, float):
        try:
            return kind(argument)
        except ValueError:
            continue
    return argument


def define(
    name: str, default: Any, help: str, rule: Rule, *, required: bool = False
) -> flags.FlagHolder:
    """Define an option that follows `rule`; its value is None where it is left out."""
    return flags.DEFINE(_Parser(name, rule), name, default, help, required=required)


def count(name: str, default: int | None, help: str, *, at_least: int = 1) -> flags.FlagHolder:
    """Define an integer option, from `at_least` to the largest int32."""
    return define(name, default, help, Number(integral=True, at_least=at_least, at_most=LARGEST))


def port(name: str, default: int, help: str) -> flags.FlagHolder:
    """Define an option that is a TCP port.

    Its value is None where it is left out or --noNAME, and `default` for --NAME without a number.
    """

    class Parser(_Parser):
        def parse(self, argument: Any) -> Any:
            words = {"true": default, "false": None}
            return words[argument] if argument in words else super().parse(argument)

    parser = Parser(name, Number(integral=True, at_least=0, at_most=2**16 - 1))
    return flags.DEFINE_flag(flags.Flag(parser, None, name, None, help, boolean=True))


def side(name: str, default: int, help: str, *, at_least: int = 1) -> flags.FlagHolder:
    """Define an option that is the side of square images, in pixels, as large as they are read."""
    rule = Number(integral=True, at_least=at_least, at_most=LARGEST_SIDE)
    return define(name, default, help, rule)


def number(name: str, default: float | None, help: str, **bounds: Any) -> flags.FlagHolder:
    """Define an option that is a finite number within the bounds of `Number`."""
    return define(name, default, help, Number(**bounds))


def choice(name: str, default: str | None, help: str, options: Iterable[str]) -> flags.FlagHolder:
    """Define an option that is one of a few words, which its help lists."""
    options = tuple(options)
    return define(name, default, f"{help} One of {', '.join(options)}.", Choice(options))


def path(
    name: str, default: str | None, help: str, kind: str | None = None, *, required: bool = False
) -> flags.FlagHolder:
    """Define an option that names a local file or folder, or one of a `kind` of `Location`."""
    return define(name, default, help, Location(kind=kind), required=required)


seed = functools.partial(define, rule=SEED)
seeds = functools.partial(define, rule=Each(SEED, fewest=1))  # as 0,1,2
counts = functools.partial(define, rule=Each(COUNT, fewest=1))  # positive integers, as 64,128
size = functools.partial(define, rule=Size())  # as 512MiB; the value is the bytes
folder = functools.partial(path, kind="folder")  # neither of these need be there yet
file = functools.partial(path, kind="file")
