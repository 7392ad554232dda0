"""All config files, for tables with a row for each."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from configs.variants import file_of


def every_config() -> Iterator[tuple[str, ConfigDict]]:
    """Yield ('rin/cifar10', its config) for every config file."""
    for path in sorted(Path(__file__).parent.glob("*/*.py")):
        module = importlib.import_module(f"configs.{path.parent.name}.{path.stem}")
        if hasattr(module, "get_config"):
            yield f"{path.parent.name}/{path.stem}", module.get_config()


def link(name: str) -> str:
    """Return a link in Markdown, from docs/ to the file of the config 'rin/cifar10:bf16'."""
    return f"[{name}](../configs/{file_of(name)}.py)"
