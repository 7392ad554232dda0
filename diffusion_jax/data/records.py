"""Name the records that cannot be used, and say what is wrong with them."""

import contextlib
from collections.abc import Iterator

from diffusion_jax.errors import UserError
from diffusion_jax.storage.untrusted import Unreadable

ON_BAD_RECORD = ("stop", "skip")


class BadRecord(UserError):
    """A record that cannot be decoded or does not hold what is asked of it."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of a record before the message of a `BadRecord` that is raised inside."""
    try:
        yield
    except BadRecord as error:
        raise BadRecord(f"{name}: {error}") from error


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Raise `BadRecord` for a file that cannot be read, and for whatever a decoder raises inside.

    Broken bytes lead it anywhere.
    """
    try:
        yield
    except Unreadable as error:
        raise BadRecord(error.reason) from error
    except (UserError, AttributeError, NameError, MemoryError):
        raise  # the program's or the machine's fault, not the record's
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadRecord(f"cannot be decoded ({reason}): replace or remove it") from error
