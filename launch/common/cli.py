"""What every command does: define --config, parse the flags, run, and end in one line on errors."""

from launch.common.config_file import (
    Parser,
    config_first,
    fault_of_flag,
    given_config,
    load_config,
)
from launch.common.interrupts import MESSAGE, STATUS, second_ends_at_once

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

from configs.catalogue import find
from diffusion_jax.console import printable
from diffusion_jax.errors import UserError
from diffusion_jax.spelling import spelt
from diffusion_jax.storage.files import describe

flags.disclaim_key_flags()  # --config belongs to the command that defines it, in its --help


def define_config(*, required: bool = True, instead: str = "") -> flags.FlagHolder:
    """Define --config, a file or a name, and --config.SECTION.FIELD=VALUE for all its fields.

    Args:
      required: whether the command wants a config.
      instead: name of a flag that may be given in its place, whatever `required` says.
    """
    about = "A name, as rin/digits, or a file. With --help its fields are listed."
    sys.argv[1:] = config_first(sys.argv[1:])  # ml_collections wants it before the fields
    try:
        holder = config_flags.DEFINE_config_file("config", help_string=about, lock_config=True)
    except (flags.Error, OSError, ValueError) as error:  # of --flagfile, which it reads already
        _fail(fault_of_flag(error))
    flags.FLAGS["config"].parser = Parser()
    if instead:
        flags.register_validator(
            "config",
            lambda config: config or flags.FLAGS[instead].value,
            message=f"give a config, or --{instead}",
        )
    elif required:
        flags.mark_flag_as_required("config")
    return holder


def config_name() -> str:
    """Return the name of the config, 'rin/cifar10:2h' of --config=configs/rin/cifar10.py:2h."""
    return find(config_flags.get_config_filename(flags.FLAGS["config"])).name


def run(main: Callable[[], None], usage: str, positional: str = "") -> None:
    """Parse the flags and run `main`.

    A user's mistake, or what the system refuses, ends in one line and exit status 2; Ctrl-C in one
    line and exit status 130.

    Args:
      usage: text that --help prints before the flags.
      positional: name of a flag whose name may be left out.
    """

    def checked(_) -> None:
        from diffusion_jax.compilation.cache import keep_programs  # JAX: not before --help

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
            except (MemoryError, RuntimeError) as error:
                # JAX's own class is a RuntimeError, and JAX is not imported here.
                if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                _fail(_out_of_memory(error))
            except KeyboardInterrupt:
                print(MESSAGE, file=sys.stderr)
                sys.exit(STATUS)

    # Names of files need not be UTF-8.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text file
    sys.modules["__main__"].__doc__ = spelt(usage)
    for name in flags.FLAGS:
        flags.FLAGS[name].help = spelt(flags.FLAGS[name].help or "")
    app.run(checked, flags_parser=functools.partial(_parse, positional))


def command() -> str:
    """Return the command line that was called, to be called again."""
    return spelt(f"python -m launch.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}")


def _parse(positional: str, arguments: list[str]) -> list[str]:
    logging.set_verbosity(logging.ERROR)  # ml_collections would warn of what is refused below
    try:
        rest = flags.FLAGS(arguments)
        if positional and len(rest) == 2:
            flags.FLAGS[positional].parse(rest.pop())
        if "config" in flags.FLAGS and (config := flags.FLAGS.config) is not None:
            from diffusion_jax.experiment.schema import check_complete

            check_complete(config)
    except SystemExit:  # after --help, which absl ends with a failure
        _show_fields(arguments)
        sys.exit(0)
    except BaseException as error:
        _fail(fault_of_flag(error))
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}: options are given as --name=value")
    return rest


def _show_fields(arguments: list[str]) -> None:
    """Print the fields of the config after the flags of --help."""
    given = given_config(arguments)
    if "config" not in flags.FLAGS or given is None:
        return
    try:
        config = load_config(given)
    except UserError as error:
        _fail(fault_of_flag(error))
    if not any("helpxml" in argument for argument in arguments):
        from diffusion_jax.experiment.schema import describe_fields

        print(f"\nFields of {given}:\n\n{spelt(describe_fields(config))}")


def _out_of_memory(error: Exception) -> str:
    reason = str(error).partition("\n")[0] or "the process may hold no more"
    return (
        f"out of memory ({reason}): use a smaller batch (--config.train.batch_size, --batch_size) "
        "or a smaller model, or model.remat"
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {printable(spelt(message))}", file=sys.stderr)
    sys.exit(2)
