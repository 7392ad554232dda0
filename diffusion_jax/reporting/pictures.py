"""Pictures of a run, each with the words that go with it; the report shows them all."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from diffusion_jax.storage.files import write_atomically, writing
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import PICTURE

FOLDER = "pictures"  # of a run directory
SECTIONS = ("samples", "inside")  # of the report: what was drawn, and what the network does


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a picture shows.

    Attributes:
      file: its name in the folder, a .png or .gif.
      section: one of `SECTIONS`.
      title: a few words.
      caption: what to see in it, in plain text.
      step: of the checkpoint that it is of.
      command: that made it.
    """

    file: str
    section: str
    title: str
    caption: str
    step: int
    command: str


def save_picture(workdir: Path, picture: Picture, write: Callable[[Path], None]) -> Path:
    """Writes a picture by `write(path)`, and then its words, over an older one of the name."""
    path = workdir / FOLDER / picture.file
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    write_json(path.with_name(picture.file + ".json"), dataclasses.asdict(picture))
    return path


def read_pictures(workdir: Path) -> list[Picture]:
    """All pictures of a run, by name; one that was deleted is none, though its words stayed."""
    words = sorted((workdir / FOLDER).glob("*.json"))
    found = {path.stem: read_json(path, PICTURE) for path in words if path.with_suffix("").exists()}
    return [
        Picture(file, *(each[name] for name in ("section", "title", "caption", "step", "command")))
        for file, each in found.items()
    ]
