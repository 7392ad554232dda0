"""Read anybody's labels as int32: each keeps its value, or is refused."""

import numpy as np

from diffusion_jax.errors import UserError

MOST_CLASSES = 2**20  # more are taken for identifiers that were given as labels


def as_labels(values: np.ndarray, count: int, where: str) -> np.ndarray:
    """Convert labels to int32, (count,).

    Args:
      values: (count,), or (count, 1) as Keras stores them, of bool or of integers of any width.
      count: the number of examples, at least 1.
      where: the name of the data, for messages.

    Raises:
      UserError: for another shape or type, or a label outside [0, MOST_CLASSES).
    """
    if values.dtype.kind not in "biu" or values.shape not in ((count,), (count, 1)):
        raise UserError(
            f"{where}: labels are {values.dtype} of shape {values.shape}: give {count} integers"
        )
    values = values.reshape(count)
    for place in (values.argmin(), values.argmax()):
        label = int(values[place])  # compared before the cast to int32, which could wrap
        if not 0 <= label < MOST_CLASSES:
            raise UserError(
                f"{where}: label {label} of example {place} is outside 0 to {MOST_CLASSES - 1}: "
                "number the classes from 0"
            )
    return values.astype(np.int32)
