"""The quickstart's table: scores of samples of the digits beside those of real digits."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import DIGIT_SCORES

FILE = "digit_scores.json"  # in a run directory
COLUMNS = {  # title and format of each score
    "agreement": ("classifier agrees", "{:.1%}"),
    "frechet": ("Frechet distance", "{:.3f}"),
    "nearest": ("nearest real", "{:.2f}"),
}


class DigitScores(NamedTuple):
    """How good, how like the real digits as a set, and how original samples are.

    Attributes:
      agreement: share whose digit, as a classifier sees it, is the one that was asked for.
      frechet: Frechet distance between the pixels of the samples and of the training images.
      nearest: mean L2 distance to the nearest training image. Were it much smaller than that of
        held-out digits, the network would be memorising.
    """

    agreement: float
    frechet: float
    nearest: float


class DigitTable(NamedTuple):
    """Scores of several sets of images.

    Attributes:
      step: training step of the EMA weights that were sampled.
      samples: number of images in each set that was drawn.
      rows: scores by the name of the set, as 'real digits, held out'.
    """

    step: int
    samples: int
    rows: Mapping[str, DigitScores]

    def cells(self) -> list[list[str]]:
        """Return titles, and a row of text for each set."""
        titles = ["", *(title for title, _ in COLUMNS.values())]
        formats = [text for _, text in COLUMNS.values()]
        rows = [
            [name, *(text.format(score) for text, score in zip(formats, scores, strict=True))]
            for name, scores in self.rows.items()
        ]
        return [titles, *rows]

    def write(self, workdir: Path) -> None:
        """Write the table into a run directory, over an older one."""
        rows = {name: scores._asdict() for name, scores in self.rows.items()}
        write_json(workdir / FILE, {**self._asdict(), "rows": rows})


def read_table(workdir: Path) -> DigitTable | None:
    """Return the table of a run, None if it has none.

    Raises:
      UserError: if the file is damaged.
    """
    if not (path := workdir / FILE).exists():
        return None
    found = read_json(path, DIGIT_SCORES)
    rows = {
        name: DigitScores(*(scores[column] for column in COLUMNS))
        for name, scores in found["rows"].items()
    }
    return DigitTable(found["step"], found["samples"], rows)
