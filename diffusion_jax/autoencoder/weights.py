"""Read weights of diffusers' AutoencoderKL, such as stabilityai/sd-vae-ft-ema, from safetensors.

Names and shapes must be the network's to the last tensor: nothing is filled in. What shapes do not
tell is read from diffusers' config.json beside the weights.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.settings import CONFIG, check_sizes, read_settings
from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.json_files import read_json
from diffusion_jax.storage.renaming import PYTORCH, Layout, substitute
from diffusion_jax.storage.tensors import read_tensors
from diffusion_jax.storage.untrusted import inside

PLAIN = "diffusion_pytorch_model.safetensors"  # of save_pretrained without a variant
_SHARD = re.compile(r"-\d+-of-\d+[.]")

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
# diffusers' names for attention until 0.15 -> those of today.
_OLD_ATTENTION = tuple(
    (rf"(?<=\.attentions\.0\.){old}\.", f"{new}.")
    for old, new in dict(query="to_q", key="to_k", value="to_v", proj_attn="to_out.0").items()
)


class Pretrained(NamedTuple):
    """An autoencoder, its float32 parameters, and the SHA-256 of the file that they are from.

    The SHA-256 of several shards is that of their SHA-256s.
    """

    model: Autoencoder
    params: dict[str, Any]
    sha256: str


def load_safetensors(path: str | Path, **overrides: Any) -> Pretrained:
    """Return the autoencoder of a file, or of a folder that diffusers' save_pretrained wrote.

    Sizes are read off the shapes of the tensors, everything else from the config.json beside them;
    where there is none, the other attributes have `Autoencoder`'s defaults, see `assumed`.

    Args:
      path: a folder, which may hold shards or a variant such as fp16, or a safetensors file with
        diffusers' names, or the index of shards.
      **overrides: `Autoencoder` attributes, as dtype; those that shapes tell must agree with them.

    Raises:
      UserError: for weights that are missing, cut short, not finite or no safetensors, that are not
        the tensors of an autoencoder, and those alone, or that config.json does not describe.
    """
    files = weight_files(Path(path))
    tensors = {}
    for file in files:
        found = read_tensors(file, ".safetensors")
        if repeated := tensors.keys() & found.keys():
            raise UserError(f"{file}: {min(repeated)} is in another shard too: copy them again")
        tensors |= found
    config = files[0].parent / CONFIG
    settings = read_settings(config) or {}
    sizes = sizes_of(tensors)
    check_sizes(config, settings, sizes)
    model = Autoencoder(**sizes | settings | overrides)
    hashes = [sha256(file) for file in files]
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Pretrained(model, params_from_diffusers(tensors, model), whole)


def assumed(path: str | Path) -> str:
    """Return one line on the defaults that `load_safetensors` takes there, '' if it takes none.

    Raises:
      UserError: as `load_safetensors` does, before it reads tensors.
    """
    config = weight_files(Path(path))[0].parent / CONFIG
    if read_settings(config) is not None:
        return ""
    model = Autoencoder()
    return (
        f"{path}: there is no {CONFIG} of diffusers beside the weights: assuming Stable "
        f"Diffusion's norm_num_groups {model.groups}, {model.scaling}"
    )


def weight_files(path: Path) -> list[Path]:
    """Return the safetensors files at a path, shards in the order of their index.

    Raises:
      UserError: for a folder without weights, or with several of which none has diffusers' plain
        name, or an index that cannot be read or names files elsewhere.
    """
    if os.path.isdir(path):  # unlike Path's, it takes a name of any length
        single = (file for file in path.glob("*.safetensors") if not _SHARD.search(file.name))
        found = sorted([*single, *path.glob("*.safetensors.index*.json")])
        plain = [file for file in found if file.name in (PLAIN, f"{PLAIN}.index.json")]
        if not found:
            raise UserError(f"{path}: holds no safetensors: give the folder of the weights")
        if len(found) > 1 and not plain:
            names = ", ".join(file.name for file in found)
            raise UserError(f"{path}: holds {names}: give the path of one of them")
        path = (plain or found)[0]
    if path.suffix != ".json":
        return [path]
    shards = dict.fromkeys(read_json(path, schemas.SHARD_INDEX)["weight_map"].values())
    if not shards or not all(shard.endswith(".safetensors") for shard in shards):
        raise UserError(f"{path} is damaged (it must name safetensors files): copy it again")
    return [inside(path.parent, shard, path) for shard in shards]


def sizes_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the `Autoencoder` attributes that the shapes of diffusers' tensors tell.

    They do not tell groups and scaling.

    Raises:
      UserError: if there are no tensors to tell them by.
    """

    def size(name: str) -> int:
        if name not in tensors:
            raise UserError(f"weights lack {name}: are they those of diffusers' AutoencoderKL?")
        return tensors[name].size

    def sizes(pattern: str) -> list[int]:
        others = (pattern.format(i) for i in itertools.count(1))
        found = itertools.takewhile(tensors.__contains__, others)
        return [size(pattern.format(0)), *map(size, found)]

    def has(part: str) -> bool:
        return any(name.startswith(part) for name in tensors)

    return dict(
        block_channels=tuple(sizes("encoder.down_blocks.{}.resnets.0.conv1.bias")),
        layers_per_block=len(sizes("encoder.down_blocks.0.resnets.{}.conv1.bias")),
        latent_channels=size("encoder.conv_out.bias") // 2,
        image_channels=size("decoder.conv_out.bias"),
        mid_block_add_attention=has("encoder.mid_block.attentions."),
        use_quant_conv=has("quant_conv."),
        use_post_quant_conv=has("post_quant_conv."),
    )


def params_from_diffusers(tensors: Mapping[str, np.ndarray], model: Autoencoder) -> dict[str, Any]:
    """Return our parameter tree from diffusers' tensors.

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
    renamed = {}
    for name, value in tensors.items():
        current = substitute(_OLD_ATTENTION, name)
        if current in renamed:
            raise UserError(f"weights hold {current} twice, by its new and its older name")
        renamed[current] = value
    return layout(model).read(renamed)


def layout(model: Autoencoder) -> Layout:
    """Return diffusers' names and axes of the tensors of a network."""
    image = jax.ShapeDtypeStruct((1, model.factor, model.factor, model.image_channels), jnp.float32)
    return Layout(
        "autoencoder",
        jax.eval_shape(model.init, jax.random.key(0), image)["params"],
        lambda path, shape: substitute(_RULES, path),
        PYTORCH,
        dtypes=("float32", "float16", "bfloat16"),
    )
