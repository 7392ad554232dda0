"""Read and write weights of the official code (google-research/pix2seq, which names RIN "tape").

The official constructor's arguments become our `RIN`, and its variables, by their official names,
our parameter tree.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.errors import UserError
from diffusion_jax.fields import COUNT, Number
from diffusion_jax.geometry import Images, Video
from diffusion_jax.storage.renaming import Layout
from rin_jax.model import RIN
from rin_jax.official_names import official_names, positions_name
from rin_jax.positions import position_table

# Attributes of ours that an official argument gives as it is: its name, and its default there.
_ATTRIBUTES = {
    "latent_dim": ("latent_dim", ...),  # those without a default must be given
    "latent_heads": ("latent_num_heads", ...),
    "latent_mlp_ratio": ("latent_mlp_ratio", ...),
    "interface_dim": ("tape_dim", ...),
    "interface_mlp_ratio": ("tape_mlp_ratio", ...),
    "read_write_heads": ("rw_num_heads", ...),
    "project_condition": ("cond_proj", True),
    "writable_condition": ("cond_tape_writable", False),
    "decoupled_read": ("cond_decoupled_read", False),
    "latent_positions": ("latent_pos_encoding", "learned"),
    "interface_positions": ("tape_pos_encoding", "learned"),
    "self_conditioning": ("self_cond", "none"),
    "normalize_source": ("xattn_enc_ln", False),
    "time_scaling": ("time_scaling", 1e4),
    "dropout": ("drop_units", 0.1),
    "drop_path": ("drop_path", 0.0),
    "attention_dropout": ("drop_att", 0.0),
    "convolution": ("conv_kernel_size", 0),
    "convolution_dropout": ("conv_drop_units", 0.0),
}
# Arguments that we compute with.
_INTEGERS = ("latent_slots", "cond_on_latent_n", "cond_dim", "seq_len", "seq_stride", "seq_cond")
_SELF_CONDITIONING = {"tape": "interface", "latent+tape": "latent+interface"}


def model_from_official(
    arguments: Mapping[str, Any], num_classes: int = 0, condition_tokens: int = 1, **overrides: Any
) -> RIN:
    """Return our network for the arguments of the official ImageTapeDenoiser or VideoTapeDenoiser.

    The official `cond` is an image's `Condition.labels` or `tokens`, and a video's `frames`. The
    official `t` of a video with classes is (B, 1 + classes): gamma, then the one-hot label, which
    is our `Condition.labels`. An image network whose `t` is so needs condition_on='time'.

    Args:
      arguments: the official constructor's keyword arguments ('num_layers': '4,4', ...). Names that
        it does not have, as others of the official config, are left alone.
      num_classes: width of the conditioning vectors, or of the label in `t`; 0 for neither.
      condition_tokens: number of conditioning vectors.
      **overrides: `RIN` attributes that the official code has no argument for, as dtype.

    Raises:
      UserError: for options that do not go together, or that `RIN` does not have.
    """
    _check_arguments(arguments)
    attributes = {
        ours: arguments.get(theirs, default) for ours, (theirs, default) in _ATTRIBUTES.items()
    }
    named = attributes["self_conditioning"]
    attributes["self_conditioning"] = _SELF_CONDITIONING.get(named, named)
    on_latents, num_latents = arguments.get("cond_on_latent_n", 0), arguments["latent_slots"]
    condition_on = "latents" if on_latents else "interface"
    if "seq_len" in arguments:
        _check_video(arguments)
        condition_on = "time"
        if attributes["interface_positions"] == "sin_cos":
            # The official table is misordered, so that it is kept as weights.
            attributes["interface_positions"] = "learned"
    elif on_latents:  # the official code leaves them free whatever number of vectors comes
        num_latents += (condition_tokens if num_classes else 0) - on_latents
    attributes |= dict(
        geometry=_geometry(arguments),
        num_latents=num_latents,
        process_layers=_process_layers(arguments["num_layers"]),
        num_classes=num_classes,
        condition_tokens=condition_tokens,
        condition_dim=max(arguments.get("cond_dim", 0), 0),
        condition_on=condition_on,
        time_on="latents" if arguments.get("time_on_latent") else "interface",
    )
    return RIN(**attributes | overrides)


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise `UserError` for arguments that are missing, or no integers where we compute with them.

    `RIN` checks those that it is given as they are.
    """
    if "image_height" not in arguments:
        raise UserError("there is no image_height: only image and video networks can be read")
    required = ["image_width", "image_channels", "patch_size", "num_layers", "latent_slots"]
    required += [theirs for theirs, default in _ATTRIBUTES.values() if default is ...]
    for name in required + (["seq_stride"] if "seq_len" in arguments else []):
        if name not in arguments:
            raise UserError(f"there is no {name}: give all arguments of the official constructor")
    for name in _INTEGERS:
        if name in arguments:
            Number(integral=True)(name, arguments[name])
    if "seq_len" in arguments:
        COUNT("seq_stride", arguments["seq_stride"])  # frames are divided by it


def _process_layers(text: Any) -> tuple[int, ...]:
    """Return K of every block, from the official '4,4'."""
    try:
        return tuple(int(layers) for layers in text.split(","))
    except (AttributeError, ValueError):
        raise UserError(f"num_layers is {text!r}: give K of every block, as '4,4'") from None


def _geometry(arguments: Mapping[str, Any]) -> Images | Video:
    """Return what the data of an official network are: images, or videos if it has `seq_len`."""
    size = (arguments["image_height"], arguments["image_width"], arguments["image_channels"])
    if "seq_len" not in arguments:
        return Images(*size, patch_size=arguments["patch_size"])
    return Video(
        arguments["seq_len"],
        *size,
        patch_size=arguments["patch_size"],
        frames_per_patch=arguments["seq_stride"],
        conditioning_frames=arguments.get("seq_cond", 0),
    )


def _check_video(arguments: Mapping[str, Any]) -> None:
    """Raise `UserError` for what the official video network computes otherwise, or not at all."""
    if arguments.get("cond_on_latent_n"):
        raise UserError(
            f"cond_on_latent_n is {arguments['cond_on_latent_n']}: a video's label enters with the "
            "time, and the official network cannot run so; set it to 0"
        )
    stride, given = arguments["seq_stride"], arguments.get("seq_cond", 0)
    for frames in (arguments["seq_len"] - given, given):
        if -frames % stride > 1:  # It pads on both sides, and reads out as if it had not.
            raise UserError(
                f"seq_stride is {stride} and {frames} frames lack {-frames % stride}: by more than "
                "one the official code shifts the frames against its output, and cannot be read"
            )


def params_from_official(
    variables: Mapping[str, np.ndarray], model: RIN, arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return our parameter tree from official variables.

    Args:
      variables: official name, with or without its first component ('tape/'), to array.
      model: the network that they belong to, as from `model_from_official`.
      arguments: the official constructor's; needed where a video's positions are 'sin_cos', whose
        table is no variable there.

    Returns:
      The tree that `model.apply({'params': tree}, ...)` takes, in `model.param_dtype`.

    Raises:
      UserError: naming the first variable that is missing, left over, or of another shape.
    """
    layout = _layout(model)
    wanted = layout.shapes()
    plain = {name.split(":")[0]: value for name, value in variables.items()}
    variables = {k if k in wanted else k.split("/", 1)[-1]: value for k, value in plain.items()}
    arguments = arguments or {}
    if "seq_len" in arguments and arguments.get("tape_pos_encoding") == "sin_cos":
        table = positions_name("interface_positions", "learned")
        variables[table] = _official_video_table(model)
    return layout.read(variables)


def params_to_official(params: Mapping[str, Any], model: RIN) -> dict[str, np.ndarray]:
    """Return official variables, by name without its first component, from our parameter tree.

    This is the inverse of `params_from_official`. A video's 'sin_cos' table, which is no variable
    of the official network, is among them.
    """
    return _layout(model).write(params)


def official_shapes(model: RIN) -> dict[str, tuple[int, ...]]:
    """Return the name (without its first component) and shape of every official variable."""
    return _layout(model).shapes()


def _layout(model: RIN) -> Layout:
    return Layout("network", _shapes(model), functools.partial(official_names, model=model))


def _shapes(model: RIN) -> dict[str, Any]:
    geometry = model.geometry
    frames = getattr(geometry, "conditioning_frames", 0)
    condition = Condition(
        tokens=jnp.zeros((1, model.condition_tokens, model.num_classes)),
        frames=jnp.zeros((1, frames, *geometry.sample_shape[1:])),
    )
    shapes = jax.eval_shape(
        model.init,
        jax.random.key(0),
        jnp.zeros((1, *geometry.sample_shape)),
        NoiseLevel(jnp.ones((1,))),
        condition,
        model.initial_carry(1),
    )
    return nn.unbox(shapes)["params"]


def _official_video_table(model: RIN) -> np.ndarray:
    """Return the official 'sin_cos' positions of a video: each repeated over time, not tiled."""
    times, *space = model.geometry.data_grid
    return position_table(tuple(space), model.interface_dim, model.time_scaling).repeat(times, 0)
