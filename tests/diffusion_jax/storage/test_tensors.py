"""Files of weights are read whole, or refused by what is wrong with them."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from diffusion_jax.errors import UserError
from diffusion_jax.storage.tensors import read_tensors

COUNTER = {"a.num_batches_tracked": np.int64(7)}  # of PyTorch's batch norms
TENSORS = {"a.weight": np.arange(600, dtype=np.float32).reshape(2, 300), "a.bias": np.ones(3)}


def write(path, tensors):
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    elif path.suffix == ".safetensors":
        save_file({name: np.asarray(value) for name, value in tensors.items()}, path)
    else:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        torch.save({name: torch.tensor(value) for name, value in tensors.items()}, path)


@pytest.fixture(params=["npz", "safetensors", "pth"])
def path(tmp_path, request):
    path = tmp_path / f"weights.{request.param}"
    write(path, TENSORS | COUNTER)
    return path


def test_every_format_gives_the_same_arrays_without_counters_of_batches(path):
    tensors = read_tensors(str(path))
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_that_are_not_finite_are_refused(path, bad, dtype):
    values = np.ones((2, 3), dtype)
    values[1, 2] = bad
    write(path, TENSORS | {"b.weight": values})
    with pytest.raises(UserError, match=rf"{path.name}: b.weight is not finite in 1 of 6 places"):
        read_tensors(path)


def test_bfloat16_that_is_not_finite_is_refused(tmp_path):
    save_file({"b": np.array([1, np.inf, np.nan], jnp.bfloat16)}, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="b is not finite in 2 of 3 places"):
        read_tensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("dtype, name", [("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")])
def test_eight_bit_floats_are_refused(tmp_path, dtype, name):
    header = json.dumps({"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "eight.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match=rf"eight.safetensors: .*'{name}': convert the weights"):
        read_tensors(path)


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
    with pytest.raises(UserError, match=r"a.npz is no file"):
        read_tensors(f"{'a' * 300}.npz")
    with pytest.raises(UserError, match=r"weights.h5 ends in '.h5': weights are read from .npz, "):
        read_tensors(tmp_path / "weights.h5")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    with pytest.raises(
        UserError, match=r"pickled\.npz holds 'a', which is pickled and could run code"
    ):
        read_tensors(tmp_path / "pickled.npz")


def test_pytorchs_files_need_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"weights.pth needs PyTorch to be read: pip install"):
        read_tensors(tmp_path / "weights.pth")
