"""Configs by name: which file `rin/digits`, `rin/cifar10:bf16` or `rin/imagenet256` stands for.

A name has a folder and a file of configs/. A file with several rows holds them in its PRESETS and
takes the name of one after a colon; such a row is also found by one name, `rin/imagenet256` for
`rin/imagenet:256`, which is what a run writes down and what configs/published.py lists.
"""

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ml_collections import ConfigDict

from configs.variants import file_of
from diffusion_jax.errors import UserError, nearest, shown

FOLDER = Path(__file__).parent
_NAME = re.compile(r"(?:(?:.*/)?configs/)?(\w+/\w+?)(?:\.py)?")


class Found(NamedTuple):
    """A config that was found.

    Attributes:
      file: the file that defines it.
      argument: what its `get_config` is given, None for nothing.
      name: its name, with variants after a colon.
    """

    file: Path
    argument: str | None
    name: str


def find(given: str) -> Found:
    """Find a config by the path of its file, or by name.

    Args:
      given: 'rin/digits', 'configs/rin/digits.py' from any directory, the path of any file, or one
        of these with variants, or a preset, after a colon.

    Raises:
      UserError: if there is neither such a file nor such a name, with names that are near.
    """
    place, colon, argument = given.partition(":")
    path, name = Path(place).absolute(), ""
    if not path.is_file():
        match = _NAME.fullmatch(place)
        if not match:
            raise UserError(f"--config: there is no file {shown(place)}")
        path, name = FOLDER / f"{match[1]}.py", match[1]
    if not path.is_file():
        if row := _rows().get(name):
            if argument:
                raise UserError(f"--config is {given}: {name} is a preset already, leave it out")
            return row
        near = nearest(name, _rows())
        raise UserError(f"--config: there is no file {shown(place)}, and no such name: {near}")
    name = f"{path.parent.name}/{path.stem}"
    if not colon:  # and no other config has to be imported
        return Found(path, None, name)
    rows = (row for row in _rows().values() if row[:2] == (path, argument))
    return next(rows, Found(path, argument, f"{name}:{argument}"))


def load(name: str) -> ConfigDict:
    """Return the config of a name.

    Raises:
      UserError: if there is none.
    """
    found = find(name)
    arguments = [] if found.argument is None else [found.argument]
    return _module(found.file).get_config(*arguments)


def names() -> list[str]:
    """Return the names of all configs, one for each row, without variants."""
    return sorted(_rows())


def source(name: str) -> str:
    """Return the file of a config, 'configs/rin/imagenet.py' of 'rin/imagenet256'."""
    row = _rows().get(name)
    return f"configs/{row.file.relative_to(FOLDER)}" if row else f"configs/{name}.py"


def _module(path: Path) -> ModuleType:
    return importlib.import_module(f"configs.{path.parent.name}.{path.stem}")


@functools.cache  # the files do not change while a command runs
def _rows() -> dict[str, Found]:
    """Return every row by its name: a preset, or a file that has none."""
    rows = {}
    for path in FOLDER.glob("*/*.py"):
        module, file = _module(path), f"{path.parent.name}/{path.stem}"
        if not hasattr(module, "get_config"):  # what several files share
            continue
        for preset in getattr(module, "PRESETS", (None,)):
            if preset is None:
                name = file
            elif preset[0].isdigit():
                name = f"{file}{preset}"  # imagenet256
            else:
                name = f"{file}_{preset}"  # lsun_church
            rows[name] = Found(path, preset, name)
    return rows


def every_config() -> Iterator[tuple[str, ConfigDict]]:
    """Yield the name and the config of every row, for tables of all."""
    return ((name, load(name)) for name in names())


def link(name: str) -> str:
    """Return a link in Markdown, from docs/ to the file of a config, as of 'rin/cifar10:bf16'."""
    return f"[{name}](../{source(file_of(name))})"
