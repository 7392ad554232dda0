"""Read weights of FID's Inception, by the names of pytorch-fid or of the TensorFlow graph.

pytorch-fid has batch norms, which are folded into the convolutions here; of the graph we take them
folded already, `<scope>.w` and `<scope>.b`.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.evaluation.inception import CLASSES, SIDE, Inception
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.renaming import PYTORCH, BatchNorm, Layout, Shape, substitute
from diffusion_jax.storage.tensors import read_tensors

_PYTORCH_FID = (
    (r"^fc\.kernel$", "fc.weight"),
    (r"\.kernel$", ".conv.weight"),
    (r"\.bias$", ".conv.bias"),
)

# The graph numbers what has one name: conv, conv_1, ...; mixed, mixed_1, ... Branches of several
# convolutions are called tower, tower_1 and tower_2, and the two halves at the end of some of them
# mixed.conv and mixed.conv_1.
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
_GRAPH = (
    (r"\.kernel$", ".w"),
    (r"\.bias$", ".b"),
    (r"\.branch(1x1|3x3)\.", ".conv."),
    (r"6a\.branch3x3dbl_", "6a.tower.conv_"),
    (r"\.branch(3x3|5x5|7x7)_", ".tower.conv_"),
    (r"\.branch(3x3dbl|7x7dbl|7x7x3)_", ".tower_1.conv_"),
    (r"\.branch_pool\b", ".tower_2.conv_1"),
    (r"\.conv_1\b", ".conv"),  # counted from 0, and the first without its number
    *((rf"\.conv_{number}\b", f".conv_{number - 1}") for number in (2, 3, 4, 5)),
    (r"\.conv_\da\b", ".mixed.conv"),
    (r"\.conv_\db\b", ".mixed.conv_1"),
    # The files that there are spell the towers of the last two blocks so.
    (r"(7[bc]\.tower(?:_\d)?)\.", r"\1_"),
    (r"(7[bc]\.tower\w*_mixed)\.", r"\1_"),
    *((rf"^{name}\b", f"conv_{number}") for number, name in enumerate(_STEM)),
    *((rf"^Mixed_{name}\b", f"mixed_{number}") for number, name in enumerate(_MIXED)),
    (r"^(conv|mixed)_0\b", r"\1"),
)


class Pretrained(NamedTuple):
    """An Inception, its float32 parameters, and the SHA-256 of the file that they are from."""

    model: Inception
    params: dict[str, Any]
    sha256: str


def load_inception(path: str | Path) -> Pretrained:
    """Return the Inception of a file; `model.has_logits` if it has the Inception Score's layer.

    Args:
      path: .npz or .safetensors with either naming, or pytorch-fid's .pth, which needs PyTorch.

    Raises:
      UserError: for a file that is missing, cut short or of another format, or that does not hold
        the float32 tensors of this network, and those alone.
    """
    tensors = read_tensors(path)
    has_logits = "fc.weight" in tensors
    if any(name.endswith(".conv.weight") for name in tensors):
        layout = _pytorch_fid(has_logits)
    else:
        has_logits, layout = False, _tensorflow()
    return Pretrained(Inception(has_logits), layout.read(tensors), sha256(path))


def pytorch_fid_shapes(has_logits: bool = True) -> dict[str, Shape]:
    """Return pytorch-fid's name and shape of every tensor."""
    return _pytorch_fid(has_logits).shapes()


def tensorflow_shapes() -> dict[str, Shape]:
    """Return the graph's name and shape of every tensor."""
    return _tensorflow().shapes()


def _pytorch_fid(has_logits: bool) -> Layout:
    return Layout(
        "Inception",
        _parameters(has_logits),
        lambda path, shape: substitute(_PYTORCH_FID, path),
        PYTORCH,
        BatchNorm("conv", epsilon=1e-3),
        unused={"fc.bias": (CLASSES,)} if has_logits else {},  # the Inception Score leaves it out
        dtypes=("float32",),
    )


def _tensorflow() -> Layout:
    return Layout(
        "Inception",
        _parameters(has_logits=False),
        lambda path, shape: substitute(_GRAPH, path),
        dtypes=("float32",),
    )


@functools.cache
def _parameters(has_logits: bool) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(Inception(has_logits).init, jax.random.key(0), image)["params"]
