"""Read weights that others trained: files of named arrays that must match a network exactly.

Every reader drops the batch counters of PyTorch's batch norms, which no network here has, and
refuses tensors that are not finite.
"""

import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from diffusion_jax.errors import UserError
from diffusion_jax.storage.npz import read_arrays
from diffusion_jax.storage.untrusted import check_memory

_BATCH_COUNTER = "num_batches_tracked"


def read_tensors(path: str | Path, ending: str = "") -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, choosing the reader by the file's ending.

    Args:
      path: .npz, without pickles; .safetensors; or .pth or .pt with a state dict, for which PyTorch
        is needed.
      ending: to read the file by, whatever its name ends in; '' for that of its name.

    Raises:
      UserError: for a file that is missing, cut short or of another format, or a tensor that is
        not finite.
    """
    if (ending := ending or Path(path).suffix) not in _READERS:
        raise UserError(f"{path} ends in {ending!r}: weights are read from {', '.join(_READERS)}")
    form, load = _READERS[ending]
    if not os.path.isfile(path):  # unlike Path's, it takes a name of any length
        raise UserError(f"{path} is no file: give the {form} file of the weights")
    check_memory(path, Path(path).stat().st_size, "the file")
    try:
        tensors = load(path)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): change its mode") from error
    except AttributeError as error:  # safetensors looks an 8-bit dtype up in NumPy
        raise UserError(f"{path}: {error}: convert the weights to float32") from error
    except Exception as error:  # it depends on the byte at which a file stops making sense
        raise UserError(f"{path} is cut short or no {form} file: {error}") from error
    tensors = {n: value for n, value in tensors.items() if n.split(".")[-1] != _BATCH_COUNTER}
    for name, value in tensors.items():
        is_float = jnp.issubdtype(value.dtype, jnp.inexact)  # NumPy's does not know bfloat16
        if is_float and (count := np.sum(~np.isfinite(value))):
            raise UserError(
                f"{path}: {name} is not finite in {count} of {value.size} places: the weights are "
                "damaged or overflowed when they were saved; get another copy"
            )
    return tensors


def check_tensors(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    network: str,
    dtypes: Collection[str] = (),
) -> None:
    """Raise `UserError` naming the first tensor that is missing, misshapen, left over or mistyped.

    Args:
      shapes: of all the tensors that there must be, by name.
      network: what the shapes are of, as 'autoencoder'.
      dtypes: that they may have; any where there are none.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"weights lack {name}")
        if (found := tensors[name].shape) != shape:
            raise UserError(f"{name} has shape {found}, and this {network}'s has {shape}")
    if extra := sorted(set(tensors) - set(shapes)):
        raise UserError(f"weights hold {len(extra)} tensors too many: {extra[0]}, ...")
    for name, value in tensors.items():
        if dtypes and value.dtype.name not in dtypes:
            raise UserError(f"{name} is {value.dtype}: give {' or '.join(dtypes)}")


def _load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} needs PyTorch to be read: pip install -e '.[convert]', or give a .safetensors"
        ) from error
    if zipfile.is_zipfile(path):  # which may be packed
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        check_memory(path, size, "what it holds")
    tensors = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    return {name: tensor.numpy() for name, tensor in tensors.items()}


_READERS: dict[str, tuple[str, Callable[[str | Path], dict[str, np.ndarray]]]] = {
    ".npz": ("npz", read_arrays),
    ".safetensors": ("safetensors", load_file),
    ".pth": ("state dict", _load_state_dict),
    ".pt": ("state dict", _load_state_dict),
}
