"""Errors that a user can act on: what is wrong, the value seen, what to do."""

import difflib
import math
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake in what the user gave; commands print its one line and exit with status 2."""


def shown(value: Any, width: int = 80) -> str:
    """Return a value as an error quotes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def nearest(value: str, options: Iterable[str]) -> str:
    """'did you mean ...?' for a misspelt name, or all the options."""
    options = sorted(options)
    close = difflib.get_close_matches(value, options, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(options)}"


def check_choice(name: str, value: str, options: Iterable[str]) -> None:
    """Raises `UserError` with the nearest valid names unless `value` is one of `options`."""
    if value not in (options := list(options)):
        raise UserError(f"{name} is {shown(value)}: {nearest(str(value), options)}")


def check_at_least(name: str, value: float, lowest: float) -> None:
    """Raises `UserError` unless `value` is a finite number of at least `lowest`."""
    if not (math.isfinite(value) and value >= lowest):
        raise UserError(f"{name} is {value}: it must be at least {lowest}")
