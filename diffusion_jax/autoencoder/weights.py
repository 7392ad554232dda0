"""Reads weights of diffusers' AutoencoderKL, such as stabilityai/sd-vae-ft-ema, from safetensors.

Names and shapes must be the network's to the last tensor: nothing is filled in.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.errors import UserError
from diffusion_jax.files import sha256
from diffusion_jax.weights import check_dtypes, check_tensors, read_safetensors

# From our paths, joined by dots, to diffusers' names: every rule in turn.
_RULES = (
    (r"^(encoder|decoder)\.(in|out)\.", r"\1.conv_\2."),
    (r"^(encoder|decoder)\.norm\.", r"\1.conv_norm_out."),
    (r"^encoder\.level_(\d+)_", r"encoder.down_blocks.\1."),
    (r"^decoder\.level_(\d+)_", r"decoder.up_blocks.\1."),
    (r"\.(down|up)\.", r".\1samplers.0.conv."),
    (r"\.middle\.", ".mid_block."),
    (r"\.block_(\d+)\.", r".resnets.\1."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"\.attention\.norm\.", ".attention.group_norm."),
    (r"\.attention\.out\.", ".attention.to_out.0."),
    (r"\.attention\.", ".attentions.0."),
    (r"\.query\.", ".to_q."),
    (r"\.key\.", ".to_k."),
    (r"\.value\.", ".to_v."),
    (r"\.(kernel|scale)$", ".weight"),
)
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# Axes of theirs -> ours, by their number: convolutions OIHW -> HWIO, linear layers (out, in) ->
# (in, out); and back.
_TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
_TO_THEIRS = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


class Pretrained(NamedTuple):
    """An autoencoder, its float32 parameters, and the SHA-256 of the file that they are from."""

    model: Autoencoder
    params: dict[str, Any]
    sha256: str


def load_safetensors(path: str | Path, **overrides: Any) -> Pretrained:
    """The autoencoder of a file, its sizes read off the shapes of the tensors.

    Args:
      path: a safetensors file with diffusers' names, as diffusion_pytorch_model.safetensors.
      **overrides: `Autoencoder` attributes, as dtype; those that shapes tell must agree with them.

    Raises:
      UserError: for a file that is missing, cut short or no safetensors, or that does not hold the
        tensors of an autoencoder, and those alone.
    """
    tensors = read_safetensors(path)
    model = model_from_diffusers(tensors, **overrides)
    return Pretrained(model, params_from_diffusers(tensors, model), sha256(path))


def model_from_diffusers(tensors: Mapping[str, np.ndarray], **overrides: Any) -> Autoencoder:
    """Our network for diffusers' tensors, sizes read off their biases; shapes do not tell groups.

    Args:
      tensors: diffusers' name to array.
      **overrides: `Autoencoder` attributes.

    Raises:
      UserError: if there are no tensors to tell sizes by.
    """

    def width(name: str) -> int:
        if name not in tensors:
            raise UserError(f"weights lack {name}: are they those of diffusers' AutoencoderKL?")
        return tensors[name].size

    def widths(pattern: str) -> list[int]:
        others = (pattern.format(i) for i in itertools.count(1))
        found = itertools.takewhile(tensors.__contains__, others)
        return [width(pattern.format(0)), *map(width, found)]

    return Autoencoder(
        **dict(
            block_channels=tuple(widths("encoder.down_blocks.{}.resnets.0.conv1.bias")),
            layers_per_block=len(widths("encoder.down_blocks.0.resnets.{}.conv1.bias")),
            latent_channels=width("post_quant_conv.bias"),
            image_channels=width("decoder.conv_out.bias"),
        )
        | overrides
    )


def params_from_diffusers(tensors: Mapping[str, np.ndarray], model: Autoencoder) -> dict[str, Any]:
    """Our parameter tree from diffusers' tensors.

    Args:
      tensors: diffusers' name to array, float32, or float16 or bfloat16, which are widened.
        Attention may have its older names, as query for to_q.
      model: the network that they belong to.

    Returns:
      The tree that `model.apply({'params': tree}, ...)` takes, float32.

    Raises:
      UserError: naming the first tensor that is missing, left over, there twice, or of another
        shape or dtype.
    """
    tensors = _with_current_names(tensors)
    table = _name_table(model)
    check_tensors(
        tensors, {name: _their_shape(leaf) for name, leaf in table.values()}, "autoencoder"
    )
    check_dtypes(tensors, "float32", "float16", "bfloat16")
    params = {
        path: jnp.asarray(tensors[name].transpose(_TO_OURS[leaf.ndim]), leaf.dtype)
        for path, (name, leaf) in table.items()
    }
    return traverse_util.unflatten_dict(params)


def diffusers_shapes(model: Autoencoder) -> dict[str, tuple[int, ...]]:
    """diffusers' name and shape of every tensor of a network."""
    return {name: _their_shape(leaf) for name, leaf in _name_table(model).values()}


def _their_shape(leaf: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    return tuple(leaf.shape[axis] for axis in _TO_THEIRS[leaf.ndim])


def _name_table(model: Autoencoder) -> dict[tuple[str, ...], tuple[str, jax.ShapeDtypeStruct]]:
    """Path of each of our parameters -> diffusers' name, our shape and dtype."""
    image = jax.ShapeDtypeStruct((1, model.factor, model.factor, model.image_channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    return {
        path: (_diffusers_name(path), leaf)
        for path, leaf in traverse_util.flatten_dict(shapes).items()
    }


def _diffusers_name(path: tuple[str, ...]) -> str:
    name = ".".join(path)
    for ours, theirs in _RULES:
        name = re.sub(ours, theirs, name)
    return name


def _with_current_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors, with diffusers' present names for attention."""
    old = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(_OLD_ATTENTION)})(?=\.)")
    renamed = {}
    for name, value in tensors.items():
        current = old.sub(lambda found: _OLD_ATTENTION[found[0]], name)
        if current in renamed:
            raise UserError(f"weights hold {current} twice, by its new and its older name")
        renamed[current] = value
    return renamed
