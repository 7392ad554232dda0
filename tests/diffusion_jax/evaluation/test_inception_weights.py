"""Inception's weights are read to the last tensor by either naming, or refused by name."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN
from inception_recipe import NAMES, inception_tensors
from safetensors.numpy import save_file

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.inception import SIDE
from diffusion_jax.evaluation.inception_weights import (
    load_inception,
    pytorch_fid_shapes,
    tensorflow_shapes,
)

KERNELS = GOLDEN / "diffussm" / "inception_tensorflow_kernels.json"


def tensorflow_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random(shape, np.float32) for name, shape in tensorflow_shapes().items()}


def save(path, tensors):
    np.savez(path, **tensors)
    return path


def test_the_names_and_shapes_are_pytorch_fids():
    assert pytorch_fid_shapes() == {name: tuple(shape) for name, shape in NAMES.items()}
    assert sum(np.prod(shape) for shape in NAMES.values()) == 23_885_392


def test_the_names_and_shapes_are_the_graphs():
    kernels = json.loads(KERNELS.read_text())
    expected = {f"{name}.w": tuple(shape) for name, shape in kernels.items()}
    expected |= {f"{name}.b": (shape[-1],) for name, shape in kernels.items()}
    assert tensorflow_shapes() == expected


def test_batch_norms_are_folded_into_every_place(tmp_path):
    given = inception_tensors()
    save_file(given, tmp_path / "recipe.safetensors")
    model, params, sha256 = load_inception(tmp_path / "recipe.safetensors")
    content = (tmp_path / "recipe.safetensors").read_bytes()
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert model.has_logits
    initial = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, initial["params"])
    np.testing.assert_array_equal(params["fc"]["kernel"], given["fc.weight"].T)
    layer = "Mixed_6b.branch7x7_2"
    weight, bias, mean, variance = (
        given[f"{layer}.bn.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    ours = params["Mixed_6b"]["branch7x7_2"]
    # (W x - mean) / sqrt(variance + epsilon) * weight + bias, of an x that is 1 at one place alone.
    response = given[f"{layer}.conv.weight"][:, 3, 0, 5]
    expected = (response - mean) / np.sqrt(variance + 1e-3) * weight + bias
    np.testing.assert_allclose(ours["kernel"][0, 5, 3] + ours["bias"], expected, rtol=1e-4)


def test_the_graphs_layers_go_to_their_places(tmp_path):
    given = tensorflow_tensors()
    model, params, _ = load_inception(save(tmp_path / "graph.npz", given))
    assert not model.has_logits and "fc" not in params
    for scope, (block, branch) in {
        "mixed_2.tower.conv_1": ("Mixed_5d", "branch5x5_2"),
        "mixed_3.tower.conv_2": ("Mixed_6a", "branch3x3dbl_3"),
        "mixed_4.tower_1.conv_4": ("Mixed_6b", "branch7x7dbl_5"),
        "mixed_8.tower_1.conv": ("Mixed_7a", "branch7x7x3_1"),
        "mixed_9.tower_mixed_conv_1": ("Mixed_7b", "branch3x3_2b"),
        "mixed_10.tower_1_mixed_conv": ("Mixed_7c", "branch3x3dbl_3a"),
        "mixed_10.tower_2_conv": ("Mixed_7c", "branch_pool"),
    }.items():
        np.testing.assert_array_equal(params[block][branch]["kernel"], given[f"{scope}.w"])
        np.testing.assert_array_equal(params[block][branch]["bias"], given[f"{scope}.b"])


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_whole_state_dict_is_read_with_its_counters_of_batches(tmp_path, ending):
    given = {name: np.zeros(shape, np.float32) for name, shape in NAMES.items()}
    norms = [name.removesuffix("weight") for name in NAMES if name.endswith(".bn.weight")]
    counters = {f"{norm}num_batches_tracked": np.array(5000, np.int64) for norm in norms}
    assert len(counters) == 94
    path = tmp_path / f"whole.{ending}"
    if ending == "npz":
        save(path, given | counters)
    else:
        save_file(given | counters, path)
    assert load_inception(path).model.has_logits


def test_a_file_may_lack_the_whole_layer_of_logits(tmp_path):
    given = {name: value for name, value in inception_tensors().items() if "fc." not in name}
    model, params, _ = load_inception(save(tmp_path / "features.npz", given))
    assert not model.has_logits and "fc" not in params


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda t: without(t, "Mixed_7c.branch_pool.bn.bias"), "lack Mixed_7c.branch_pool.bn.bias"),
        (lambda t: without(t, "fc.weight"), "hold 1 tensors too many: fc.bias"),
        (lambda t: without(t, "fc.bias"), "lack fc.bias"),
        (lambda t: t | {"AuxLogits.fc.bias": np.zeros(3)}, "1 tensors too many: AuxLogits.fc.bias"),
        (
            lambda t: t | {"fc.bias": np.zeros(1000, np.float32)},
            r"fc.bias has shape \(1000,\), and this Inception's has \(1008,\)",
        ),
        (lambda t: t | {"fc.bias": np.zeros(1008, np.float16)}, "fc.bias is float16: give float32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, make, message):
    zeros = {name: np.zeros(shape, np.float32) for name, shape in NAMES.items()}
    with pytest.raises(UserError, match=message):
        load_inception(save(tmp_path / "weights.npz", make(zeros)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda t: without(t, "mixed.conv.b"), "lack mixed.conv.b"),
        (lambda t: t | {"softmax.w": np.zeros(3)}, "too many: softmax.w"),
        (lambda t: t | {"conv.w": np.zeros((32, 3, 3, 3))}, r"conv.w has shape \(32, 3, 3, 3\)"),
        (lambda t: {}, "weights lack conv.b"),
    ],
)
def test_tensors_of_the_graph_that_do_not_fit_are_named(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        load_inception(save(tmp_path / "weights.npz", make(tensorflow_tensors())))
