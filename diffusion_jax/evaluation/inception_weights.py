"""Reads weights of FID's Inception, by the names of pytorch-fid or of the TensorFlow graph.

pytorch-fid has batch norms, which are folded into the convolutions here; of the graph we take them
folded already, `<scope>.w` and `<scope>.b`.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from diffusion_jax.evaluation.inception import CLASSES, SIDE, Inception
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.tensors import check_dtypes, check_tensors, read_tensors

BN_EPSILON = 1e-3

# In the order of the graph's numbers: conv, conv_1, ...; mixed, mixed_1, ...
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_MIXED = (
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
# The end of pytorch-fid's name of a convolution -> its name in its branch of the graph.
_IN_BRANCH = {
    **{"pool": "conv", "1": "conv", "2": "conv_1", "3": "conv_2", "4": "conv_3", "5": "conv_4"},
    **dict.fromkeys(("2a", "3a"), "mixed.conv"),
    **dict.fromkeys(("2b", "3b"), "mixed.conv_1"),
}


class Pretrained(NamedTuple):
    """An Inception, its float32 parameters, and the SHA-256 of the file that they are from."""

    model: Inception
    params: dict[str, Any]
    sha256: str


def load_inception(path: str | Path) -> Pretrained:
    """The Inception of a file; `model.has_logits` tells whether it has the Inception Score's layer.

    Args:
      path: .npz or .safetensors with either naming, or pytorch-fid's .pth, which needs PyTorch.

    Raises:
      UserError: for a file that is missing, cut short or of another format, or that does not hold
        the float32 tensors of this network, and those alone.
    """
    tensors = read_tensors(path)
    if any(name.endswith(".conv.weight") for name in tensors):
        model, params = _from_pytorch_fid(tensors)
    else:
        model, params = _from_tensorflow(tensors)
    return Pretrained(model, params, sha256(path))


def pytorch_fid_shapes(has_logits: bool = True) -> dict[str, tuple[int, ...]]:
    """pytorch-fid's name and shape of every tensor."""
    shapes = {}
    for layer, (rows, columns, inputs, outputs) in _kernel_shapes().items():
        shapes[f"{layer}.conv.weight"] = (outputs, inputs, rows, columns)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{layer}.bn.{part}"] = (outputs,)
    if has_logits:
        shapes |= {"fc.weight": (CLASSES, 2048), "fc.bias": (CLASSES,)}
    return shapes


def tensorflow_shapes() -> dict[str, tuple[int, ...]]:
    """The graph's name and shape of every tensor."""
    shapes = {}
    for layer, shape in _kernel_shapes().items():
        shapes |= {f"{_scope(layer)}.w": shape, f"{_scope(layer)}.b": shape[-1:]}
    return shapes


def _from_pytorch_fid(tensors: Mapping[str, np.ndarray]) -> tuple[Inception, dict[str, Any]]:
    model = Inception(has_logits="fc.weight" in tensors)
    _check(tensors, pytorch_fid_shapes(model.has_logits))
    layers = {}
    for layer in _kernel_shapes():
        norm = f"{layer}.bn."
        scale = tensors[norm + "weight"] / np.sqrt(
            tensors[norm + "running_var"].astype(np.float64) + BN_EPSILON
        )
        kernel = tensors[f"{layer}.conv.weight"].transpose(2, 3, 1, 0) * scale
        bias = tensors[norm + "bias"] - tensors[norm + "running_mean"] * scale
        layers[layer] = {"kernel": kernel, "bias": bias}
    if model.has_logits:
        layers["fc"] = {"kernel": tensors["fc.weight"].T}
    return model, _params(layers)


def _from_tensorflow(tensors: Mapping[str, np.ndarray]) -> tuple[Inception, dict[str, Any]]:
    _check(tensors, tensorflow_shapes())
    layers = {
        layer: {"kernel": tensors[f"{_scope(layer)}.w"], "bias": tensors[f"{_scope(layer)}.b"]}
        for layer in _kernel_shapes()
    }
    return Inception(has_logits=False), _params(layers)


def _check(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    check_tensors(tensors, shapes, "Inception")
    check_dtypes(tensors, "float32")


def _params(layers: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    tree = traverse_util.unflatten_dict(dict(layers), sep=".")
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), tree)


@functools.cache
def _kernel_shapes() -> dict[str, tuple[int, ...]]:
    """Shape (rows, columns, inputs, outputs) of each convolution, by our path joined by dots."""
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    params = jax.eval_shape(Inception(has_logits=False).init, jax.random.key(0), image)["params"]
    return {
        ".".join(layer): leaf.shape
        for (*layer, part), leaf in traverse_util.flatten_dict(params).items()
        if part == "kernel"
    }


def _scope(layer: str) -> str:
    """The graph's name of a convolution: 'Mixed_6b.branch7x7_2' -> 'mixed_4.tower.conv_1'."""
    block, _, branch = layer.partition(".")
    if block in _STEM:
        return _numbered("conv", _STEM.index(block))
    mixed = _numbered("mixed", _MIXED.index(block))
    branch, _, place = branch.partition("_")
    if not place:
        return f"{mixed}.conv"
    second = branch in ("branch3x3dbl", "branch7x7dbl", "branch7x7x3") and block != "Mixed_6a"
    tower = 2 if place == "pool" else int(second)
    path = f"{_numbered('tower', tower)}.{_IN_BRANCH[place]}"
    if block in ("Mixed_7b", "Mixed_7c"):  # as the files that there are spell it
        path = path.replace(".", "_")
    return f"{mixed}.{path}"


def _numbered(name: str, i: int) -> str:
    return f"{name}_{i}" if i else name
