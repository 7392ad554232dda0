"""Declare what every JSON file that we read must hold, and what to do about a damaged one.

A shape is
- `str`, `int`, `float` or `bool`: a value of that type, where a float may be written as an integer;
- `COUNT`: an integer that is not negative;
- `MEASURED`: a number as large as those of float32 at most;
- a tuple of shapes: any of them, with `None` for null;
- `[shape]`: a list of such values;
- `{str: shape}`: an object of any keys with such values;
- `{"key": shape, ...}`: an object with these keys at least. A key that ends in '?' may be missing.
"""

import reprlib
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

Shape = Any
COUNT = "an integer that is not negative"
MEASURED = "a number of float32"
_LARGEST = 3.4028236e38  # of float32


class Schema(NamedTuple):
    """The declared content of a JSON file.

    Attributes:
      shape: see above.
      advice: what to do where a file holds something else.
    """

    shape: Shape
    advice: str


# Runs and exports.
_RUN = "put back a copy of it, or choose another run directory"
_EXPORT = "copy the folder anew, or give a folder that launch.export wrote"

# Fields that have been in every config since the first version, so that a file without them is
# damaged. What came later is filled in, see `diffusion_jax.experiment.workdir.read_config`.
_GEOMETRY = {"kind": str, "channels": COUNT, str: COUNT}
_SCHEDULE = {"name": str}
CONFIG = Schema(
    {
        "seed": int,
        "model": {"name": str, "geometry": _GEOMETRY, "num_classes?": COUNT},
        "data": {"name": str, "path": str, "flip": bool},
        "objective": {"schedule": _SCHEDULE, "prediction": str, "loss": str},
        "optimizer": {"name": str, "learning_rate": float, "warmup_steps": COUNT},
        "ema_decay": float,
        "train": {"steps": COUNT, "batch_size": COUNT, "accumulate": COUNT},
        "sampling": {"schedule": _SCHEDULE, "sampler": str, "steps": COUNT, "guidance": float},
    },
    _RUN,
)
DATA = Schema({"path": str, "examples": COUNT, "fingerprint": str}, _RUN)
START = Schema({"path": str, "sha256": str, "step": COUNT, "rewarm_steps": COUNT}, _RUN)
RUN = Schema(
    {"config?": str, "command?": str, "code?": str, "devices?": str},
    "delete it, and training writes it again",
)
RECORD = Schema(
    {"step": COUNT, str: MEASURED}, "put back a copy of it, or delete the damaged lines from it"
)
TRACKER = Schema({"tracker": str, "run": str}, "delete it, and the tracker begins a new run")
PICTURE = Schema(
    {"file": str, "section": str, "title": str, "caption": str, "command": str, "step": COUNT},
    "delete it, and draw the picture again",
)
_STEPS = {"step": (COUNT, None), "images_seen": (COUNT, None)}
PROVENANCE = Schema(
    {"config": str, "weights": str, **_STEPS, "layout": str, "shards": {str: str}}, _EXPORT
)

# Samples and scores.
REQUEST = Schema(
    {"num": COUNT, "labels": str, "seed": int, "step": COUNT, "sampling": {}},
    "remove the folder, and the same command draws the samples again",
)
RESULT = Schema(
    {
        "config": str,
        "metrics": {str: float},
        "counts": {str: COUNT},
        "weights": {str: str},
        "reference": {},
        "command": str,
        **{f"{key}?": (int, None) for key in ("seed", "step", "images_seen", "steps")},
        "sampler?": (str, None),
        "guidance?": (float, None),
        "code?": str,
    },
    "remove it, or score again",
)
DIGIT_SCORES = Schema(
    {
        "step": COUNT,
        "samples": COUNT,
        "rows": {str: {"agreement": float, "frechet": float, "nearest": float}},
    },
    "delete it, or score again with launch.quickstart",
)
_TEXTS = {key: (str, None) for key in ("resize", "weights", "crop")}
REFERENCE = Schema(
    {"resolution": ([COUNT], None), **_TEXTS, "count": (COUNT, None), "fingerprint": str},
    "give the file of launch.reference, or make it again",
)
ACCUMULATOR = Schema(
    {"extraction": [([COUNT], str, None)], "keep": COUNT, "count": COUNT},
    "delete it, and scoring begins anew",
)

# Prepared data sets.
_PREPARED = "copy it again, or delete it and give the launch.prepare command again"
_SKIPPED = [{"reason": str}]
_SHARD = {"file": str, "records": COUNT, "bytes": COUNT, "sha256": str, "skipped": _SKIPPED}
SHARD = Schema(_SHARD, _PREPARED)
MANIFEST = Schema(
    {
        "name": str,
        "kind": str,
        "shape": [(COUNT, None)],
        "class_names": ([str], None),
        "splits": {str: {"records": COUNT, "skipped": COUNT, "shards": [_SHARD]}},
        "request": {},
        "metadata": {str: str},
        "fingerprint": str,
    },
    _PREPARED,
)
PREPARATION = Schema({}, _PREPARED)
# TFDS's own metadata: `data.features` and `data.prepared` check what they hold.
TFDS = Schema({}, "copy it again, or prepare anew")

# The weights of diffusers.
_DIFFUSERS = "copy it again from where the weights are from"
AUTOENCODER = Schema({}, _DIFFUSERS)  # `autoencoder.settings` checks what it holds
SHARD_INDEX = Schema({"weight_map": {str: str}}, _DIFFUSERS)


def shape_like(example: Any) -> Shape:
    """Return the shape of values like an example, of which every key may be missing."""
    if isinstance(example, dict):
        return {f"{key}?": shape_like(value) for key, value in example.items()}
    if isinstance(example, list):
        return [shape_like(example[0]) if example else float]
    return type(example)


def fault(value: Any, shape: Shape, name: str = "") -> str:
    """Return what is wrong with a value, as 'train.steps is "10", not an integer'; '' if nothing.

    Args:
      name: of the value, for the message.
    """
    return next(_faults(value, shape, name), "")


def _faults(value: Any, shape: Shape, name: str) -> Iterator[str]:
    if isinstance(shape, tuple):
        found = [fault(value, each, name) for each in shape]
        if "" not in found:
            yield found[0]
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_integer = is_number and isinstance(value, int)
    key = shape if isinstance(shape, Hashable) else type(shape)
    forms: dict[Any, tuple[bool, str]] = {
        list: (isinstance(value, list), "a list"),
        dict: (isinstance(value, dict), "an object"),
        None: (value is None, "null"),
        str: (isinstance(value, str), "text"),
        bool: (isinstance(value, bool), "true or false"),
        float: (is_number, "a number"),
        int: (is_integer, "an integer"),
        COUNT: (is_integer and value >= 0, COUNT),
        MEASURED: (is_number and abs(value) < _LARGEST, MEASURED),
    }
    is_right, words = forms[key]
    if not is_right:
        yield f"{name or 'its content'} is {reprlib.repr(value)}, not {words}"
    elif isinstance(shape, list):
        for i, item in enumerate(value):
            yield from _faults(item, shape[0], f"{name}[{i}]")
    elif isinstance(shape, dict):
        place = f"{name}." if name else ""
        named = {key.removesuffix("?"): inner for key, inner in shape.items() if key is not str}
        for key, inner in named.items():
            if key in value:
                yield from _faults(value[key], inner, place + key)
            elif key in shape:  # without '?'
                yield f"it lacks {place + key}"
        for key in (key for key in value if key not in named) if str in shape else ():
            yield from _faults(value[key], shape[str], place + key)
