"""Errors that a user can act on: what is wrong, the value seen, what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave; commands print its one line and exit with status 2."""


def nearest(value: str, options: Iterable[str]) -> str:
    """'did you mean ...?' for a misspelt name, or all the options."""
    options = sorted(options)
    close = difflib.get_close_matches(value, options, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(options)}"


def check_choice(name: str, value: str, options: Iterable[str]) -> None:
    """Raises `UserError` with the nearest valid names unless `value` is one of `options`."""
    if value not in (options := list(options)):
        raise UserError(f"{name} is {value!r}: {nearest(str(value), options)}")


def check_at_least(name: str, value: float, lowest: float) -> None:
    """Raises `UserError` if `value` is below `lowest`."""
    if value < lowest:
        raise UserError(f"{name} is {value}: it must be at least {lowest}")


def check_rate(name: str, value: float) -> None:
    """Raises `UserError` unless `value` is a probability."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} is {value}: it is a rate, between 0 and 1")
