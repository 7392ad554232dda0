"""Records that cannot be used: what is wrong, and with which of them."""

import contextlib
from collections.abc import Iterator

from diffusion_jax.errors import UserError

ON_BAD_RECORD = ("stop", "skip")


class BadRecord(UserError):
    """A record that cannot be decoded or does not hold what is asked of it."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts the name of a record before the message of a `BadRecord` raised inside."""
    try:
        yield
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
