"""What is wrong with a command line or a config file, in one line.

absl and ml_collections say it at length, or not at all, and a config file is a program that may
raise anything.
"""

import re
import runpy
import traceback

from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import RequiredValueError

from diffusion_jax.errors import UserError


def config_files(arguments: list[str]) -> list[str]:
    """Return the values of --config; absl takes one dash too, or the value as the next argument."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found.append(value if equals else following)
    return found


def config_fault(arguments: list[str]) -> str | None:
    """Say what is wrong with the config file itself; None if it gives a config or there is none."""
    given = config_files(arguments)
    if not given:
        return None
    path, colon, variants = given[-1].partition(":")
    try:
        config = runpy.run_path(path)["get_config"](*([variants] if colon else []))
    except UserError:  # of its variants: told as any mistake in a flag
        return None
    except KeyError as error:
        if error.args != ("get_config",):
            return _raised(path, error)
        return f"--config: {path} has no function get_config: see configs/rin/digits.py"
    except TypeError as error:
        if "get_config() takes 0 positional arguments" in str(error):
            return "--config: this file has no variants, leave out the colon and what follows"
        return _raised(path, error)
    except BaseException as error:  # it may also end the process
        return _raised(path, error)
    return what_lacks(config)


def what_lacks(config: object) -> str | None:
    """Say which field a config that a file gave lacks or should not have; None if it is complete.

    Networks have fields of their own, and each schedule uses some of those of a schedule.
    """
    from configs.base import base  # JAX, which config files import anyway
    from diffusion_jax.experiment.workdir import flatten

    if not isinstance(config, ConfigDict) or isinstance(config, FrozenConfigDict):
        kind = type(config).__name__
        return f"--config gives a {kind}: return a ConfigDict, as configs.base.base makes"
    try:
        found = flatten(config.to_dict())
    except RequiredValueError:
        return "--config leaves a required field open: give it, as --config.SECTION.FIELD=VALUE"
    every = flatten(base(ConfigDict()).to_dict())
    needed = (*every, "model.name", "model.geometry.kind")
    missing = [field for field in needed if field not in found]
    if missing := [field for field in missing if not re.search(r"schedule\.(?!name)", field)]:
        return f"--config gives a config without {missing[0]}: make it with configs.base.base"
    unknown = [field for field in found if field not in every and not field.startswith("model.")]
    if unknown:
        return f"--config gives a config with {unknown[0]}, which is no field: leave it out"
    return None


def _raised(path: str, error: BaseException) -> str:
    """Say what a config file raised, and in which line of it."""
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == path), None)
        reason = " ".join(str(error).split())
    place = f" in line {line}" if line else ""
    return f"--config: {path} failed{place}: {type(error).__name__}: {reason}"


def what_failed(error: BaseException) -> str:
    """Say what is wrong with a flag."""
    if isinstance(error, KeyError | AttributeError):
        return _unknown_field(error)
    group = re.search(r"flag --([\w.]+)=.* as a ConfigDict", str(error))
    if group:
        return f"--{group[1]} is a group of fields: set one, as --{group[1]}.FIELD=VALUE"
    cause = error
    while cause and not isinstance(cause, UserError):
        cause = cause.__context__
    if cause is None:
        return " ".join(str(error).split())
    return str(cause) if str(cause).startswith("--") else f"--config: {cause}"


def _unknown_field(error: Exception) -> str:
    """Say in one line what ml_collections says of a field that a config does not have."""
    text = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0])
    name = re.search(r"""['"](\w+)['"]""", text)
    close = re.search(r'Did you mean "(\w+)"', text)
    hint = f"did you mean {close[1]!r}?" if close else "configs/base.py lists the fields"
    return f"unknown config field {name[1] if name else text!r}: {hint}"
