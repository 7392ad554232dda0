"""A table of names and axes reads foreign tensors into our parameters, and writes them back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.storage.renaming import PYTORCH, BatchNorm, Layout, substitute

RULES = ((r"^first\b", "conv1"), (r"\.kernel$", ".weight"))
RNG = np.random.default_rng(0)


def tree(**shapes: tuple[int, ...]) -> dict:
    """Our parameters: {module: {leaf: shape and dtype}}, from module__leaf."""
    found: dict = {}
    for name, shape in shapes.items():
        module, leaf = name.split("__")
        found.setdefault(module, {})[leaf] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return found


def by_rules(path: str, shape: tuple[int, ...]) -> str:
    return substitute(RULES, path)


def test_axes_are_turned_and_names_replaced_in_turn():
    parameters = tree(first__kernel=(2, 3, 4, 5), first__bias=(5,), last__kernel=(6, 7))
    layout = Layout("network", parameters, by_rules, PYTORCH, dtypes=("float32",))
    shapes = {"conv1.weight": (5, 4, 2, 3), "conv1.bias": (5,), "last.weight": (7, 6)}
    assert layout.shapes() == shapes
    tensors = {name: RNG.random(shape, np.float32) for name, shape in shapes.items()}
    params = layout.read(tensors)
    kernel = params["first"]["kernel"]
    assert kernel[1, 2, 3, 4] == tensors["conv1.weight"][4, 3, 1, 2]
    np.testing.assert_array_equal(params["last"]["kernel"], tensors["last.weight"].T)
    with pytest.raises(UserError, match=r"^weights lack conv1.bias$"):
        layout.read({name: value for name, value in tensors.items() if name != "conv1.bias"})
    with pytest.raises(UserError, match=r"last.weight has shape \(6, 7\), and this network's"):
        layout.read(tensors | {"last.weight": tensors["last.weight"].T})
    with pytest.raises(UserError, match=r"hold 1 tensors too many: other"):
        layout.read(tensors | {"other": tensors["conv1.bias"]})
    with pytest.raises(UserError, match=r"conv1.bias is float16: give float32"):
        layout.read(tensors | {"conv1.bias": tensors["conv1.bias"].astype(np.float16)})


def test_stacked_layers_are_cut_apart_and_come_back():
    def names(path: str, shape: tuple[int, ...]) -> list:
        return [[f"{path}/{i}/{j}" for j in range(shape[1])] for i in range(shape[0])]

    layout = Layout("network", tree(blocks__scale=(2, 3, 4)), names)
    params = {"blocks": {"scale": jnp.arange(24.0).reshape(2, 3, 4)}}
    written = layout.write(params)
    assert {name: value.shape for name, value in written.items()} == layout.shapes()
    np.testing.assert_array_equal(written["blocks.scale/1/2"], [20, 21, 22, 23])
    read = layout.read(written)
    np.testing.assert_array_equal(read["blocks"]["scale"], params["blocks"]["scale"])


def test_a_batch_norm_is_folded_into_the_convolution_before_it():
    rules = ((r"\.kernel$", ".conv.weight"), (r"\.bias$", ".conv.bias"))
    layout = Layout(
        "network",
        tree(unit__kernel=(3, 4), unit__bias=(4,), plain__kernel=(3, 4), plain__bias=(4,)),
        lambda path, shape: substitute(rules, path),
        PYTORCH,
        BatchNorm("conv", plain=("plain",), epsilon=0.1),
        unused={"counter": ()},
    )
    shapes = layout.shapes()
    assert (
        shapes["counter"] == () and "unit.conv.bias" not in shapes and "plain.bn.bias" not in shapes
    )
    tensors = {name: RNG.random(shape) + 0.5 for name, shape in shapes.items()}
    params = layout.read(tensors)
    norm = {part: tensors[f"unit.bn.{part}"] for part in ("weight", "bias")}
    mean, variance = tensors["unit.bn.running_mean"], tensors["unit.bn.running_var"]
    x = RNG.random(3)
    expected = (tensors["unit.conv.weight"] @ x - mean) / np.sqrt(variance + 0.1)
    ours = x @ params["unit"]["kernel"] + params["unit"]["bias"]
    np.testing.assert_allclose(ours, expected * norm["weight"] + norm["bias"], rtol=1e-5)
    ours = x @ params["plain"]["kernel"] + params["plain"]["bias"]
    plain = tensors["plain.conv.weight"] @ x + tensors["plain.conv.bias"]
    np.testing.assert_allclose(ours, plain, rtol=1e-5)
