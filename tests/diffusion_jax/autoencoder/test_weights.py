"""diffusers' weights are read to the last tensor, or refused by name."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN
from safetensors.numpy import save_file

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.weights import (
    layout,
    load_safetensors,
    params_from_diffusers,
    sizes_of,
)
from diffusion_jax.errors import UserError

FULL = json.loads((GOLDEN / "diffussm" / "vae_full_state_dict.json").read_text())
MODEL = Autoencoder(
    block_channels=(4, 6, 8), layers_per_block=1, latent_channels=5, image_channels=1, groups=2
)


def tensors() -> dict[str, np.ndarray]:
    """Random weights of `MODEL` by diffusers' names."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in layout(MODEL).shapes().items()
    }


def test_the_full_network_has_diffusers_names_and_shapes():
    shapes = layout(Autoencoder()).shapes()
    assert shapes == {name: tuple(shape) for name, shape in FULL["tensors"].items()}
    assert sum(np.prod(shape) for shape in shapes.values()) == 83_653_863
    full = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    assert Autoencoder(**sizes_of(full)) == Autoencoder()


def test_a_file_tells_its_network_and_fills_it(tmp_path):
    path = tmp_path / "vae.safetensors"
    given = tensors()
    save_file(given, path)
    model, params, sha256 = load_safetensors(path, groups=2)
    assert model == MODEL
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    initial = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, initial)
    kernel = params["encoder"]["level_1_block_0"]["conv1"]["kernel"]
    theirs = given["encoder.down_blocks.1.resnets.0.conv1.weight"]
    for row, column, i, o in [(0, 1, 2, 3), (2, 0, 3, 5)]:
        assert kernel[row, column, i, o] == theirs[o, i, row, column]
    query = params["decoder"]["middle"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(query, given["decoder.mid_block.attentions.0.to_q.weight"].T)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_widened(tmp_path, dtype):
    halves = {name: value.astype(dtype) for name, value in tensors().items()}
    save_file(halves, tmp_path / "half.safetensors")
    params = load_safetensors(tmp_path / "half.safetensors", groups=2).params
    wide = {name: value.astype(np.float32) for name, value in halves.items()}
    check_equal(params, params_from_diffusers(wide, MODEL))


def check_equal(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


def with_older_names(given: dict) -> dict:
    renamed = {}
    for name, value in given.items():
        for old, new in FULL["legacy_attention_names"].items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = value
    return renamed


def test_older_names_of_attention_mean_the_same():
    older = with_older_names(tensors())
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in older
    check_equal(params_from_diffusers(older, MODEL), params_from_diffusers(tensors(), MODEL))


def without(name):
    return {key: value for key, value in tensors().items() if key != name}


BIAS = "decoder.up_blocks.0.upsamplers.0.conv.bias"
QUERY = "encoder.mid_block.attentions.0.query.weight"


@pytest.mark.parametrize(
    "given, message",
    [
        (without(BIAS), f"lack {BIAS}"),
        (tensors() | {"other": np.zeros(3)}, "hold 1 tensors too many: other"),
        (tensors() | {BIAS: np.zeros(7)}, rf"{BIAS} has shape \(7,\), and .* has \(8,\)"),
        (tensors() | {BIAS: np.zeros(8, np.int8)}, f"{BIAS} is int8"),
        (tensors() | {QUERY: np.zeros((8, 8))}, r"hold \S+to_q.weight twice"),
        (without("post_quant_conv.bias"), "lack post_quant_conv.bias"),
        ({"encoder.down.0.block.0.conv1.bias": np.zeros(4)}, "are they those of diffusers"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, given, message):
    save_file(given, tmp_path / "vae.safetensors")
    with pytest.raises(UserError, match=message):
        load_safetensors(tmp_path / "vae.safetensors", groups=2)


def test_sizes_given_must_be_those_of_the_file(tmp_path):
    save_file(tensors(), tmp_path / "vae.safetensors")
    with pytest.raises(UserError, match=r"has shape \(6,.*\), and .* has \(4,"):
        load_safetensors(tmp_path / "vae.safetensors", groups=2, block_channels=(4, 4, 8))
    with pytest.raises(UserError, match="groups = 32"):
        load_safetensors(tmp_path / "vae.safetensors")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "vae.safetensors"
    with pytest.raises(UserError, match="is no file"):
        load_safetensors(path)
    with pytest.raises(UserError, match="is no file"):
        load_safetensors("a" * 300)
    with pytest.raises(UserError, match="holds no safetensors"):
        load_safetensors(tmp_path)
    save_file(tensors(), path)
    whole = path.read_bytes()
    for content in (whole[:-4], b"", b"PK\x03\x04 another format"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"vae\.safetensors is cut short or no safetensors"):
            load_safetensors(path)
