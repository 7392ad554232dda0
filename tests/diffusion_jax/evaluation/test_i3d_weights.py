"""pytorch-i3d's weights are read to the last tensor, from any kind of file, or refused by name."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_i3d import random_tensors
from safetensors.numpy import save_file

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.i3d_weights import load_i3d, params_from_pytorch

TENSORS = random_tensors()
UNIT = "Mixed_4e.b2b"
KERNEL, VARIANCE = f"{UNIT}.conv3d.weight", f"{UNIT}.bn.running_var"


def save(path) -> str:
    """Writes the tensors in the format that the path ends in."""
    if path.suffix == ".npz":
        np.savez(path, **TENSORS)
    elif path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch = pytest.importorskip("torch", reason="reading .pt wants torch, which is not there")
        given = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
        torch.save(given | {f"{UNIT}.bn.num_batches_tracked": torch.tensor(7)}, path)
    return path


@pytest.mark.parametrize("name", ["i3d.npz", "i3d.safetensors", "i3d.pt", "i3d.pth"])
def test_every_kind_of_file_gives_the_same_parameters(tmp_path, name):
    path = save(tmp_path / name)
    params, sha256 = load_i3d(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    jax.tree.map(np.testing.assert_array_equal, params, params_from_pytorch(TENSORS))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_norms_are_folded_and_axes_turned():
    ours = params_from_pytorch(TENSORS)["Mixed_4e"]["b2b"]
    weight, bias, mean, variance = (
        TENSORS[f"{UNIT}.bn.{name}"][5]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(ours["bias"][5], bias - scale * mean, rtol=1e-5)
    kernel = TENSORS[KERNEL]
    np.testing.assert_allclose(ours["kernel"][0, 1, 2, 3, 5], scale * kernel[5, 3, 0, 1, 2], 1e-5)


@pytest.mark.parametrize(
    "given, message",
    [
        ({KERNEL: TENSORS[KERNEL]}, "lack Conv3d_1a_7x7.bn.weight"),
        ({n: t for n, t in TENSORS.items() if n != VARIANCE}, f"lack {VARIANCE}"),
        (TENSORS | {"other": np.zeros(3)}, "hold 1 tensors too many: other"),
        (TENSORS | {KERNEL: np.zeros(3)}, rf"{KERNEL} has shape \(3,\), .* \(64, 32, 3, 3, 3\)"),
        (TENSORS | {VARIANCE: np.zeros(64, np.int8)}, f"{VARIANCE} is int8: give float32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(given, message):
    with pytest.raises(UserError, match=message):
        params_from_pytorch(given)
