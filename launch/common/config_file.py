"""Loading the file of --config, once, and saying in one line what is wrong with it or with a flag.

A config file is a program that may raise anything, and absl and ml_collections explain themselves
at length.
"""

import re
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from configs import catalogue
from diffusion_jax.errors import UserError


class Parser(flags.ArgumentParser):
    """Turns the value of --config, a file or a name, into a config."""

    def parse(self, argument: str) -> ConfigDict:
        """Return the config, locked. Raises `UserError` as `load_config`."""
        return load_config(argument).lock()

    def flag_type(self) -> str:
        """Return what --helpxml says of the value."""
        return "config object"


def config_first(arguments: list[str]) -> list[str]:
    """Return the arguments with --config, in one word or in two, before all others."""
    for start, argument in enumerate(arguments):
        end = start + (1 if "=" in argument else 2)
        if argument == "--":
            break
        if argument.partition("=")[0] in ("--config", "-config") and end <= len(arguments):
            return [*arguments[start:end], *arguments[:start], *arguments[end:]]
    return arguments


def given_config(arguments: list[str]) -> str | None:
    """Return the last value of --config; absl takes one dash too, or the value as an argument."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found = value if equals else following
    return found


def load_config(given: str) -> ConfigDict:
    """Run the file that `configs.catalogue.find` finds, and return its config.

    Raises:
      UserError: if there is no such file, it fails, or it gives something else.
    """
    # It imports JAX, as config files do; commands without a config should not wait for it.
    from diffusion_jax.experiment.schema import check_complete

    found = catalogue.find(given)
    if not found.file.is_relative_to(catalogue.FOLDER):
        sys.path.append(str(found.file.parent))  # a network of one's own may lie beside its config
    shown = given.partition(":")[0]
    try:
        module = runpy.run_path(str(found.file))
        if "get_config" not in module:
            raise UserError(
                f"--config: {shown} has no function get_config: see "
                f"{catalogue.FOLDER / 'rin/digits.py'}"
            )
        arguments = [] if found.argument is None else [found.argument]
        config = module["get_config"](*arguments)
    except UserError:
        raise
    except BaseException as error:  # it may also end the process
        if "get_config() takes 0 positional arguments" in str(error):
            raise UserError(
                "--config: this file has no variants, leave out the colon and what follows"
            ) from error
        raise UserError(_failure(shown, found.file, error)) from error
    check_complete(config)
    return config


def _failure(shown: str, file: Path, error: BaseException) -> str:
    """Describe what a config file raised, and in which of its lines."""
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(file)), None)
        reason = " ".join(str(error).split())
    place = f" in line {line}" if line else ""
    return f"--config: {shown} failed{place}: {type(error).__name__}: {reason}"


def fault_of_flag(error: BaseException) -> str:
    """Describe in one line what is wrong with a flag."""
    if isinstance(error, KeyError | AttributeError):
        return _unknown_field(error)
    if group := re.search(r"flag --([\w.]+)=.* as a ConfigDict", str(error)):
        return f"--{group[1]} is a group of fields: set one, as --{group[1]}.FIELD=VALUE"
    cause: Any = error
    while cause and not isinstance(cause, UserError):
        cause = cause.__context__
    if cause is None:
        return " ".join(str(error).split())
    return str(cause) if str(cause).startswith("--") else f"--config: {cause}"


def _unknown_field(error: Exception) -> str:
    """Describe in one line what ml_collections says of a field that a config does not have."""
    text = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0])
    name = re.search(r"""['"](\w+)['"]""", text)
    close = re.search(r'Did you mean "(\w+)"', text)
    hint = f"did you mean {close[1]!r}?" if close else "--help with --config lists the fields"
    return f"unknown config field {name[1] if name else text!r}: {hint}"
