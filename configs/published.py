"""What the papers say that their networks cost, to be printed beside our own counts."""

from typing import NamedTuple


class Cost(NamedTuple):
    """As printed.

    Attributes:
      parameters: millions.
      multiply_adds: billions, of one forward pass of one image; None where none is printed.
      difference: why ours are others, one line.
    """

    parameters: float
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
