"""Read the settings of an autoencoder from diffusers' config.json.

Every setting that changes what AutoencoderKL computes is honoured or refused by name.
"""

import os
from pathlib import Path
from typing import Any

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, check_scaling
from diffusion_jax.errors import UserError, shown
from diffusion_jax.fields import COUNT, Each, Kind, Rule
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json

CONFIG = "config.json"
CLASS = "AutoencoderKL"


def _only(*values: Any) -> Rule:
    """Return the rule of a setting of which we compute one value, by whatever name."""

    def rule(name: str, value: Any) -> None:
        if value not in values:
            wanted = "null" if values == (None,) else values[0]
            raise UserError(f"{name} is {shown(value)}: it must be {wanted}, all that can be read")

    return rule


# By diffusers' name: the rule of its value, and the attribute of our `Autoencoder` that gets it;
# None where it gets none.
_SETTINGS: dict[str, tuple[Rule | None, str | None]] = {
    "in_channels": (COUNT, "image_channels"),
    "out_channels": (COUNT, "image_channels"),
    "block_out_channels": (Each(COUNT, fewest=1), "block_channels"),
    "layers_per_block": (COUNT, "layers_per_block"),
    "latent_channels": (COUNT, "latent_channels"),
    "norm_num_groups": (COUNT, "groups"),
    "use_quant_conv": (Kind(bool), "use_quant_conv"),
    "use_post_quant_conv": (Kind(bool), "use_post_quant_conv"),
    "mid_block_add_attention": (Kind(bool), "mid_block_add_attention"),
    "down_block_types": (Each(_only("DownEncoderBlock2D"), fewest=1), None),
    "up_block_types": (Each(_only("UpDecoderBlock2D"), fewest=1), None),
    "act_fn": (_only("silu", "swish"), None),  # two names of one function
    "latents_mean": (_only(None), None),
    "latents_std": (_only(None), None),
    # `check_scaling` looks at these two.
    "scaling_factor": (None, None),
    "shift_factor": (None, None),
    # These change no result: we compute in float32, in one piece.
    "force_upcast": (None, None),
    "sample_size": (None, None),
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
    values, attributes = {}, {}
    for name, value in content.items():
        if name.startswith("_"):
            continue
        if name not in _SETTINGS:
            raise UserError(
                f"{path}: {name} is {value!r}, which {CLASS} did not have when this was written: "
                "remove it if the weights do not depend on it"
            )
        rule, attribute = _SETTINGS[name]
        values[name] = rule(f"{path}: {name}", value) if rule else value
        if attribute:
            attributes[attribute] = values[name]
    _check_together(path, values)
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
    for name, (_, attribute) in _SETTINGS.items():
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
