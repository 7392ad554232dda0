"""Pictures of a run, each with the words that go with it; the report shows them all."""

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_jax.storage.files import write_atomically, writing
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import PICTURE

FOLDER = "pictures"  # of a run directory
SECTIONS = ("samples", "inside")  # of the report: what was drawn, and what the network does


@dataclasses.dataclass(frozen=True)
class Picture:
    """The words that go with a picture.

    Attributes:
      file: its name in the folder, a .png or .gif.
      section: one of `SECTIONS`.
      title: a few words.
      caption: what to see in it, in plain text.
      step: the training step of the checkpoint that it shows.
      command: the command that made it.
    """

    file: str
    section: str
    title: str
    caption: str
    step: int
    command: str


def save_picture(workdir: Path, picture: Picture, write: Callable[[Path], None]) -> Path:
    """Write a picture by `write(path)`, and then its words, over an older one of that name."""
    path = workdir / FOLDER / picture.file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    write_json(path.with_name(picture.file + ".json"), dataclasses.asdict(picture))
    return path


def read_words(path: Path, name: str, **values: Any) -> tuple[str, str]:
    """Return the title and the caption of a picture, out of a TOML file of the package.

    Args:
      path: the file, with a table for each picture that has a `title` and a `caption`.
      name: the table's.
      **values: what stands for the {fields} of the caption.
    """
    words = tomllib.loads(path.read_text())[name]
    return words["title"], " ".join(words["caption"].format(**values).split())


def read_pictures(workdir: Path) -> list[Picture]:
    """Return all pictures of a run, by name; words without their picture are passed over."""
    words = sorted((workdir / FOLDER).glob("*.json"))
    found = {path.stem: read_json(path, PICTURE) for path in words if path.with_suffix("").exists()}
    return [
        Picture(file, *(each[name] for name in ("section", "title", "caption", "step", "command")))
        for file, each in found.items()
    ]
