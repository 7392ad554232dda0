"""Read the settings of an autoencoder from diffusers' config.json.

Every setting that changes what AutoencoderKL computes is honoured or refused by name.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, check_scaling
from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json

CONFIG = "config.json"
CLASS = "AutoencoderKL"


class Setting(NamedTuple):
    """What a setting may be.

    Attributes:
      what: the values that it may have, in words.
      allows: value -> whether it may have it.
      attribute: of our `Autoencoder`, which gets the value; None where it gets none.
    """

    what: str
    allows: Callable[[Any], bool]
    attribute: str | None = None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _lists(allows: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and value != [] and all(map(allows, value))


_COUNT, _BOOL = ("a whole number above 0", _is_count), ("true or false", _is_bool)
_NULL = ("null, the only value that can be read", lambda value: value is None)
_SETTINGS = {
    "in_channels": Setting(*_COUNT, "image_channels"),
    "out_channels": Setting(*_COUNT, "image_channels"),
    "block_out_channels": Setting(
        "a list of whole numbers above 0", _lists(_is_count), "block_channels"
    ),
    "layers_per_block": Setting(*_COUNT, "layers_per_block"),
    "latent_channels": Setting(*_COUNT, "latent_channels"),
    "norm_num_groups": Setting(*_COUNT, "groups"),
    "use_quant_conv": Setting(*_BOOL, "use_quant_conv"),
    "use_post_quant_conv": Setting(*_BOOL, "use_post_quant_conv"),
    "mid_block_add_attention": Setting(*_BOOL, "mid_block_add_attention"),
    "down_block_types": Setting(
        "DownEncoderBlock2D at every level", _lists(lambda value: value == "DownEncoderBlock2D")
    ),
    "up_block_types": Setting(
        "UpDecoderBlock2D at every level", _lists(lambda value: value == "UpDecoderBlock2D")
    ),
    "act_fn": Setting(  # two names of one function
        "silu, the only one that can be read", lambda value: value in ("silu", "swish")
    ),
    "latents_mean": Setting(*_NULL),
    "latents_std": Setting(*_NULL),
    # `check_scaling` looks at these two.
    "scaling_factor": Setting("", lambda value: True),
    "shift_factor": Setting("", lambda value: True),
    # These change no result: we compute in float32, in one piece.
    "force_upcast": Setting("", lambda value: True),
    "sample_size": Setting("", lambda value: True),
}


def read_settings(path: Path) -> dict[str, Any] | None:
    """Return the `Autoencoder` attributes that a config.json sets.

    A setting that it leaves out has diffusers' default there and here, or is told by the shapes of
    the tensors.

    Returns:
      Values by attribute, or None if there is no such file, or it is not one of diffusers.

    Raises:
      UserError: for a file that cannot be read, a model that is not AutoencoderKL, or a setting
        that has no counterpart here.
    """
    if not os.path.isfile(path):
        return None
    content = read_json(path, schemas.AUTOENCODER)
    if not content.keys() & {"_class_name", *_SETTINGS}:
        return None
    if (kind := content.get("_class_name", CLASS)) != CLASS:
        raise UserError(f"{path}: is of diffusers' {kind}: only {CLASS} can be read")
    values = {name: value for name, value in content.items() if not name.startswith("_")}
    for name, value in values.items():
        if name not in _SETTINGS:
            raise UserError(
                f"{path}: {name} is {value!r}, which {CLASS} did not have when this was written: "
                "remove it if the weights do not depend on it"
            )
        if not _SETTINGS[name].allows(value):
            raise UserError(f"{path}: {name} is {value!r}: it must be {_SETTINGS[name].what}")
    _check_together(path, values)
    attributes = {
        attribute: tuple(value) if type(value) is list else value
        for name, value in values.items()
        if (attribute := _SETTINGS[name].attribute)
    }
    scale = values.get("scaling_factor", STABLE_DIFFUSION.scaling_factor)
    shift = values.get("shift_factor")
    attributes["scaling"] = check_scaling(str(path), scale, 0.0 if shift is None else shift)
    return attributes


def check_sizes(path: Path, attributes: dict[str, Any], told: dict[str, Any]) -> None:
    """Raise `UserError` where a config.json is of other sizes than the tensors beside it.

    Args:
      attributes: as `read_settings` returns them.
      told: the `Autoencoder` attributes that the tensors tell.
    """
    for name, setting in _SETTINGS.items():
        attribute = setting.attribute
        if attribute in told and attributes.get(attribute, told[attribute]) != told[attribute]:
            raise UserError(
                f"{path}: {name} is {attributes[attribute]}, and the weights beside it have "
                f"{told[attribute]}: put the config.json of these weights there"
            )


def _check_together(path: Path, values: dict[str, Any]) -> None:
    """Raise `UserError` for settings that do not go together here."""
    inputs, outputs = values.get("in_channels", 3), values.get("out_channels", 3)
    if inputs != outputs:
        raise UserError(
            f"{path}: in_channels is {inputs} and out_channels {outputs}: they must be equal"
        )
    levels = len(values.get("block_out_channels", ()))
    for name in ("down_block_types", "up_block_types"):
        if levels and name in values and len(values[name]) != levels:
            raise UserError(
                f"{path}: {name} has {len(values[name])} levels and block_out_channels {levels}: "
                "they must be equal"
            )
