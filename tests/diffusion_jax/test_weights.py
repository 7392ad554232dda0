"""Files of weights are read whole, or refused by what is wrong with them."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffusion_jax.errors import UserError
from diffusion_jax.weights import read_tensors

TENSORS = {"a.weight": np.arange(600, dtype=np.float32).reshape(2, 300), "a.bias": np.ones(3)}


def write(path):
    if path.suffix == ".npz":
        np.savez(path, **TENSORS)
    elif path.suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        state = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
        torch.save(state | {"a.num_batches_tracked": torch.tensor(0)}, path)


@pytest.fixture(params=["npz", "safetensors", "pth"])
def path(tmp_path, request):
    path = tmp_path / f"weights.{request.param}"
    write(path)
    return path


def test_every_format_gives_the_same_arrays(path):
    tensors = read_tensors(str(path))
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value)


def test_damaged_files_are_refused(path):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    damaged = [whole[: len(whole) // 2], whole[:-4], b"", b"another format", whole[:100]]
    if path.suffix == ".npz":  # the only one of them with checksums that are looked at
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{path.name} is cut short or no"):
            read_tensors(path)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_a_file_larger_than_the_memory_is_not_read(tmp_path, ending):
    with (tmp_path / f"weights.{ending}").open("wb") as file:
        header = json.dumps({"a": {"dtype": "U8", "shape": [2**42], "data_offsets": [0, 2**42]}})
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(2**42)  # takes no room
    with pytest.raises(UserError, match=r"the file takes 4,096\.0 GiB, and this machine has"):
        read_tensors(tmp_path / f"weights.{ending}")


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"weights.npz is no file: give the npz file"):
        read_tensors(tmp_path / "weights.npz")
    with pytest.raises(UserError, match=r"weights.h5 ends in '.h5': weights are read from .npz, "):
        read_tensors(tmp_path / "weights.h5")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    with pytest.raises(
        UserError, match=r"pickled\.npz holds 'a', which is pickled and could run code"
    ):
        read_tensors(tmp_path / "pickled.npz")


def test_pytorchs_files_need_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"weights.pth needs PyTorch to be read: pip install"):
        read_tensors(tmp_path / "weights.pth")
