"""What the commands share: flags of a config, errors as one line, a bar."""

import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from diffusion_jax.errors import UserError
from diffusion_jax.files import describe
from launch.interrupts import MESSAGE, STATUS, second_ends_at_once


def define_config() -> flags.FlagHolder:
    """--config=FILE.py and --config.section.field=VALUE."""
    return config_flags.DEFINE_config_file(
        "config", help_string="Config file, as configs/rin/digits.py.", lock_config=True
    )


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
            except KeyboardInterrupt:
                print(MESSAGE, file=sys.stderr)
                sys.exit(STATUS)

    sys.modules["__main__"].__doc__ = usage
    app.run(checked, flags_parser=functools.partial(_parse, positional))


def command() -> str:
    """What was called, to be called again."""
    return f"python -m launch.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}"


def say(text: str) -> None:
    """Prints, once for all processes of a run."""
    import jax  # imported here: not for the workers of launch.prepare

    if jax.process_index() == 0:
        print(text, flush=True)


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
    for argument in arguments:
        name, _, value = argument.partition("=")
        path, _, _ = value.partition(":")  # what follows names variants
        if name == "--config" and not Path(path).is_file():
            _fail(f"--config: there is no file {path!r}")
    try:
        rest = flags.FLAGS(arguments)
    except SystemExit:  # after --help, which absl ends with a failure
        sys.exit(0)
    except (KeyError, AttributeError) as error:
        _fail(_unknown_field(error))
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _fail(" ".join(_what_failed(error).split()))
    if positional and len(rest) == 2:
        flags.FLAGS[positional].value = rest.pop()
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}: options are given as --name=value")
    return rest


def _what_failed(error: Exception) -> str:
    """What is wrong with a flag, where ml_collections says it at length or not at all."""
    if "get_config() takes 0 positional arguments" in str(error):
        return "--config: this file has no variants, leave out the colon and what follows"
    group = re.search(r"flag --([\w.]+)=.* as a ConfigDict", str(error))
    if group:
        return f"--{group[1]} is a group of fields: set one, as --{group[1]}.FIELD=VALUE"
    first = error
    while first.__context__:
        first = first.__context__
    return f"--config: {first}" if isinstance(first, UserError) else str(error)


def _unknown_field(error: Exception) -> str:
    """One line of what ml_collections says of a field that a config does not have."""
    text = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0])
    name = re.search(r"""['"](\w+)['"]""", text)
    close = re.search(r'Did you mean "(\w+)"', text)
    hint = f"did you mean {close[1]!r}?" if close else "configs/base.py lists the fields"
    return f"unknown config field {name[1] if name else text!r}: {hint}"


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
