"""What the commands share: flags of a config, errors as one line, a bar."""

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from diffusion_jax.console import printable
from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import describe
from launch.common.faults import config_fault, config_files, what_failed, what_lacks
from launch.common.interrupts import MESSAGE, STATUS, second_ends_at_once


def define_config() -> flags.FlagHolder:
    """--config=FILE.py and --config.section.field=VALUE."""
    about = "Config file, as configs/rin/digits.py."
    try:
        return config_flags.DEFINE_config_file("config", help_string=about, lock_config=True)
    except (flags.Error, OSError, ValueError) as error:  # of --flagfile, which it reads already
        _fail(what_failed(error))


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
        from diffusion_jax.compilation.cache import (
            keep_programs,  # imported here, as jax everywhere in this file
        )

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


def _parse(positional: str, arguments: list[str]) -> list[str]:
    for given in config_files(arguments):
        path, _, _ = given.partition(":")  # what follows names variants
        if not os.path.isfile(path):
            _fail(f"--config: there is no file {path!r}")
    logging.set_verbosity(logging.ERROR)  # ml_collections would warn of what is refused below
    try:
        rest = flags.FLAGS(arguments)
        if positional and len(rest) == 2:
            flags.FLAGS[positional].parse(rest.pop())
    except SystemExit:  # after --help, which absl ends with a failure
        if fault := config_fault(arguments):
            _fail(fault)
        sys.exit(0)
    except BaseException as error:  # a config file is a program: it may raise anything
        _fail(config_fault(arguments) or what_failed(error))
    config = flags.FLAGS.config if "config" in flags.FLAGS else None
    if fault := config is not None and what_lacks(config):
        _fail(fault)
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}: options are given as --name=value")
    return rest


def _out_of_memory(error: Exception) -> str:
    reason = str(error).partition("\n")[0] or "the process may hold no more"
    return (
        f"out of memory ({reason}): use a smaller batch (--config.train.batch_size, --batch_size) "
        "or a smaller model, or model.remat"
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)
