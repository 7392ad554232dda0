"""Read the features of a prepared data set, which somebody else may have written, as data.

TFDS imports the module of every class that a features.json names, and so runs whatever lies there.
Only TFDS's own classes are accepted here, before TFDS sees the file.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from diffusion_jax.data.arrays import MOST_CLASSES
from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import parse_json
from diffusion_jax.storage.untrusted import read_regular

FEATURES = "features.json"
LARGEST = 2**26  # bytes of a file of metadata
_AGAIN = schemas.TFDS.advice
# The names that TFDS writes for its own features, and two that older versions wrote.
ACCEPTED = {
    f"{kind.__module__}.{kind.__qualname__}"
    for kind in vars(tfds.features).values()
    if isinstance(kind, type) and issubclass(kind, tfds.features.FeatureConnector)
} - {"tensorflow_datasets.core.features.feature.FeatureConnector"}
ACCEPTED |= {
    "tensorflow_datasets.core.features.feature.Tensor",  # until TFDS 4.5
    "tensorflow_datasets.core.features.top_level_feature.TopLevelFeature",
}
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # the last until TFDS 4.4


def read_features(directory: Path) -> tfds.features.FeaturesDict:
    """Return the features that the features.json of a directory describes.

    Raises:
      UserError: for a missing or damaged file, a class that is not TFDS's own, or one that needs
        TensorFlow.
    """
    path = directory / FEATURES
    content = _read_checked(path)
    try:
        features = tfds.features.FeatureConnector.from_json(content)
    except ImportError as error:
        raise UserError(
            f"{directory}: TFDS cannot open it without TensorFlow ({error}): "
            "pip install -e '.[tfds]'"
        ) from error
    except Exception as error:  # what TFDS raises depends on what is wrong
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{path} is damaged ({reason}): {_AGAIN}") from error
    if not isinstance(features, tfds.features.FeaturesDict):
        raise UserError(f"{path} describes a {type(features).__name__}: it must be a FeaturesDict")
    label = dict(features.items()).get("label")
    if isinstance(label, tfds.features.ClassLabel):
        _name_classes(label, directory / "label.labels.txt")
    return features


def _name_classes(label: tfds.features.ClassLabel, path: Path) -> None:
    """Read the names of classes where there are any; without them, classes are numbered."""
    if not label.num_classes or not path.exists():
        if (label.num_classes or 0) > MOST_CLASSES:
            raise UserError(f"{path.parent}: {FEATURES} has {label.num_classes} classes: mend it")
        return
    content = read_regular(path, LARGEST)
    try:
        lines = re.split(r"[\r\n]+", content.decode())
        label.names = [line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged ({error}): {_AGAIN}") from error
    except ValueError as error:
        raise UserError(f"{path} and {FEATURES} differ ({error}): copy both again") from error


def read_metadata(path: Path) -> dict:
    """Return the JSON object in a file of TFDS's metadata. Raises `UserError` where it is none."""
    return parse_json(read_regular(path, LARGEST), path, schemas.TFDS)


def check_classes(directory: Path) -> None:
    """Raise `UserError` if a features.json in a directory or below it names a class of others."""
    for path in directory.rglob(FEATURES):
        _read_checked(path)


def _read_checked(path: Path) -> dict:
    content = read_metadata(path)
    try:
        foreign = [name for name in _class_names(content) if name not in ACCEPTED]
    except RecursionError as error:
        raise UserError(f"{path} is damaged (nested too deeply): {_AGAIN}") from error
    if foreign:
        raise UserError(
            f"{path} names the class {foreign[0]}, and opening it would run its code: only the "
            "features of TFDS itself are read"
        )
    return content


def _class_names(content: object) -> Iterator[str]:
    """Yield the names of classes in JSON, and in JSON within its strings, as TFDS wrote it once."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in _CLASS_KEYS and isinstance(value, str):
                yield value
            else:
                yield from _class_names(value)
    elif isinstance(content, list):
        for value in content:
            yield from _class_names(value)
    elif isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        try:
            yield from _class_names(json.loads(content))
        except ValueError:
            return  # no JSON: TFDS does not read it as such either
