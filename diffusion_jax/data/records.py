"""Records that cannot be used: what is wrong, and with which of them."""

import contextlib
from collections.abc import Iterator

from diffusion_jax.errors import UserError
from diffusion_jax.files import Unreadable


class BadRecord(UserError):
    """A record that cannot be decoded or does not hold what is asked of it."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of a record before the message of a `BadRecord` raised inside.

    A record whose file cannot be read is a bad one, too.
    """
    try:
        yield
    except Unreadable as error:
        raise BadRecord(f"{name}: {error.reason}") from error
    except BadRecord as error:
        raise BadRecord(f"{name}: {error}") from error


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Raises `BadRecord` for whatever a decoder raises inside: broken bytes lead it anywhere."""
    try:
        yield
    except (UserError, AttributeError, NameError, MemoryError):
        raise  # the program's or the machine's fault, not the record's
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadRecord(f"cannot be decoded ({reason}): replace or remove it") from error
