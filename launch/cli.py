"""What the commands share: flags of a config, errors as one line, a bar."""

import functools
import os
import re
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, FrozenConfigDict, config_flags
from ml_collections.config_dict import RequiredValueError
from tqdm import tqdm

from diffusion_jax.errors import UserError, printable
from diffusion_jax.files import describe
from launch.interrupts import MESSAGE, STATUS, second_ends_at_once


def define_config() -> flags.FlagHolder:
    """--config=FILE.py and --config.section.field=VALUE."""
    about = "Config file, as configs/rin/digits.py."
    try:
        return config_flags.DEFINE_config_file("config", help_string=about, lock_config=True)
    except (flags.Error, OSError, ValueError) as error:  # of --flagfile, which it reads already
        _fail(_what_failed(error))


def config_name() -> str:
    """'rin/cifar10:2h' of --config=configs/rin/cifar10.py:2h."""
    given = config_flags.get_config_filename(flags.FLAGS["config"])
    file, colon, variants = given.partition(":")
    path = Path(file)
    return f"{path.parent.name}/{path.stem}{colon}{variants}"


def run(main: Callable[[], None], usage: str, positional: str = "") -> None:
    """Parses the flags and runs `main`.

    A user's mistake, or what the system refuses, ends in one line and exit status 2; Ctrl-C in one
    line and exit status 130.

    Args:
      usage: what --help prints before the flags.
      positional: a flag that may be given without its name.
    """

    def checked(_) -> None:
        from launch.cache import keep_programs  # imported here, as jax everywhere in this file

        logging.set_verbosity(logging.WARNING)
        keep_programs()
        with second_ends_at_once():
            try:
                main()
                sys.stdout.flush()
            except UserError as error:
                _fail(str(error))
            except BrokenPipeError:  # of `| head`
                os._exit(128 + signal.SIGPIPE)
            except OSError as error:
                _fail(describe(error))
            except MemoryError as error:
                _fail(_out_of_memory(error))
            except RuntimeError as error:  # JAX's own class is one, and JAX is not imported here
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                _fail(_out_of_memory(error))
            except KeyboardInterrupt:
                print(MESSAGE, file=sys.stderr)
                sys.exit(STATUS)

    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    sys.modules["__main__"].__doc__ = usage
    app.run(checked, flags_parser=functools.partial(_parse, positional))


def command() -> str:
    """What was called, to be called again."""
    return f"python -m launch.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}"


def say(*lines: str) -> None:
    """Print lines, once for all processes of a run; what does not print is escaped."""
    jax = sys.modules.get("jax")  # commands that need no devices do not import it
    if jax is None or jax.process_index() == 0:
        print(*map(printable, lines), sep="\n", flush=True)


def progress(total: int, unit: str, initial: int = 0) -> tqdm:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(
        total=total,
        initial=initial,
        unit=f" {unit}",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


def _parse(positional: str, arguments: list[str]) -> list[str]:
    for given in _config_files(arguments):
        path, _, _ = given.partition(":")  # what follows names variants
        if not os.path.isfile(path):
            _fail(f"--config: there is no file {path!r}")
    logging.set_verbosity(logging.ERROR)  # ml_collections would warn of what is refused below
    try:
        rest = flags.FLAGS(arguments)
        if positional and len(rest) == 2:
            flags.FLAGS[positional].parse(rest.pop())
    except SystemExit:  # after --help, which absl ends with a failure
        if fault := _config_fault(arguments):
            _fail(fault)
        sys.exit(0)
    except BaseException as error:  # a config file is a program: it may raise anything
        _fail(_config_fault(arguments) or _what_failed(error))
    config = flags.FLAGS.config if "config" in flags.FLAGS else None
    if fault := config is not None and _what_lacks(config):
        _fail(fault)
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}: options are given as --name=value")
    return rest


def _config_files(arguments: list[str]) -> list[str]:
    """The values of --config, which absl also takes with one dash, or as an argument of its own."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            found.append(value if equals else following)
    return found


def _config_fault(arguments: list[str]) -> str | None:
    """What is wrong with the config file itself, None if it gives a config."""
    given = _config_files(arguments)
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
    return _what_lacks(config)


def _what_lacks(config: object) -> str | None:
    """What a config that a file gave lacks or has too much, None if it is complete.

    Networks have fields of their own, and each schedule uses some of those of a schedule.
    """
    from configs.base import base  # JAX, which config files import anyway
    from launch.workdir import flatten

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
    """What a config file raised, and in which line of it."""
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == path), None)
        reason = " ".join(str(error).split())
    place = f" in line {line}" if line else ""
    return f"--config: {path} failed{place}: {type(error).__name__}: {reason}"


def _what_failed(error: BaseException) -> str:
    """What is wrong with a flag, where ml_collections says it at length or not at all."""
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
    """One line of what ml_collections says of a field that a config does not have."""
    text = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0])
    name = re.search(r"""['"](\w+)['"]""", text)
    close = re.search(r'Did you mean "(\w+)"', text)
    hint = f"did you mean {close[1]!r}?" if close else "configs/base.py lists the fields"
    return f"unknown config field {name[1] if name else text!r}: {hint}"


def _out_of_memory(error: Exception) -> str:
    reason = str(error).partition("\n")[0] or "the process may hold no more"
    return (
        f"out of memory ({reason}): use a smaller batch (--config.train.batch_size, --batch_size) "
        "or a smaller model, or model.remat"
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)
