"""What the papers print of networks and samples, to stand beside our own figures.

RIN is arXiv 2212.11972, NS 2301.10972 and DiffuSSM 2311.18257, which also prints DiT's and LDM's.
"""

import ast
import csv
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_jax.reporting.published import Row


class Cost(NamedTuple):
    """The size of a network, as printed; None where nothing is.

    Attributes:
      parameters: millions.
      multiply_adds: billions, of one forward pass of one image.
      difference: why our counts differ, one line.
    """

    parameters: float | None = None
    multiply_adds: float | None = None
    difference: str = ""


_XL = (
    "the paper's own FLOPs formula gives 295.6G at 256 pixels and 1182G at 512, for these weight "
    "shapes; its parameter formula leaves W_up out (see DiffuSSMBlock, and model.reading)"
)
_INFERRED = "the paper does not print the sizes; these are inferred from its counts"

# By the config that stands for the row.
COSTS = {
    "diffussm/imagenet256": Cost(673, 280.3, _XL),
    "diffussm/imagenet512": Cost(673, 1066.2, _XL),
    "rin/imagenet64": Cost(214),
    "rin/imagenet128": Cost(215),
    "rin/imagenet256": Cost(319),
    "rin/imagenet512": Cost(320),
    "rin/imagenet768": Cost(408),
    "rin/imagenet1024": Cost(412),
    "rin/imagenet64_rin": Cost(281, None, _INFERRED),
    "rin/imagenet128_rin": Cost(410, None, _INFERRED),
    "rin/imagenet256_rin": Cost(410, None, _INFERRED),
}


_NUMBERS = set(Row._fields) - {"model", "source", "config", "sampler"}


def _read() -> dict[str, list[Row]]:
    """Return the rows of published.csv by their table, a data set; an empty cell is None."""
    tables: dict[str, list[Row]] = {}
    with (Path(__file__).parent / "published.csv").open(newline="") as file:
        for cells in csv.DictReader(file):
            rows = tables.setdefault(cells.pop("table"), [])
            given: dict[str, Any] = {name: cell or None for name, cell in cells.items()}
            numbers = {name: ast.literal_eval(given[name] or "None") for name in _NUMBERS}
            rows.append(Row(**given | numbers))
    return tables


# By data set. FIDs of RIN and NS are of 1000 DDPM steps on the cosine schedule; DiffuSSM follows
# DiT: 250 respaced steps. Guided rows are taken to have DiT's scale of 1.5.
RESULTS = _read()
