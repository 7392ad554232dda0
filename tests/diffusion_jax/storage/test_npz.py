"""Archives that lie about their size, or unpack to a thousand times of it, take no memory."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from diffusion_jax.data.arrays import npz
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import ArrayOnDisk, load_archive
from diffusion_jax.storage.npz import array_names, open_array, read_arrays
from diffusion_jax.storage.schemas import REFERENCE
from diffusion_jax.storage.tensors import read_tensors

READERS = {
    "training data": lambda path: npz(str(path)),
    "weights": read_tensors,
    "statistics": lambda path: load_archive(path, "statistics", REFERENCE),
    "images, by rows": lambda path: list(ArrayOnDisk(path, "images").batches(64)),
}


def header(shape, dtype="|u1") -> bytes:
    """What an .npy file begins with."""
    file = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


def archive(path, content: bytes, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("images.npy", content)
    return path


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """An archive of 2 GiB of zeros that takes 10 MB."""
    path = tmp_path_factory.mktemp("bomb") / "data.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(header((2**15, 256, 256, 1)))
        for _ in range(2**7):
            member.write(bytes(2**24))
    return path


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "shape, dtype",
    [
        ((2**20, 256, 256, 1), "|u1"),  # 64 GiB
        ((2**62, 2**62, 2, 1), "|u1"),  # more than fits into an integer
        ((-2, -1, 1, 1), "|u1"),  # two elements, by their product
        ((1, 1, 1, 1), "<U500000000"),
        ((3, 1, 1, 1), "|u1"),
    ],
)
def test_a_header_must_fit_what_follows_it(tmp_path, name, shape, dtype):
    path = archive(tmp_path / "data.npz", header(shape, dtype) + b"ab")
    tracemalloc.start()
    with pytest.raises(UserError, match=r"data.npz holds 'images', which is damaged: its header"):
        READERS[name](path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("name", READERS)
def test_a_directory_that_lies_with_the_header(tmp_path, name):
    """The sizes in the archive's own list of members are what the header asks for."""
    head = header((2**20, 64, 64, 1))
    path = archive(tmp_path / "data.npz", head + b"ab", zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    for start in (22, entry + 24):  # of the uncompressed size
        struct.pack_into("<I", content, start, len(head) + 2**32 - 2**20)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data.npz holds 'images', which is .* as only constant"):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_a_bomb_is_not_unpacked(bomb, name):
    tracemalloc.start()
    with pytest.raises(UserError, match=r"'images', which is 2\.0 GiB packed into .* bytes"):
        READERS[name](bomb)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_many_members_are_taken_together(tmp_path):
    path = tmp_path / "data.npz"
    content = header((2**30 - 2**20,))
    archive(path, content + b"ab", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        for number in range(3000):
            file.writestr(f"{number}.npy", b"")
            file.filelist[-1].file_size = 2**30
            file.filelist[-1].compress_size = 2**23
    with pytest.raises(UserError, match=r"what it holds .* GiB, and this machine has"):
        read_tensors(path)


def test_constant_arrays_are_packed_tightly_and_read(tmp_path):
    images = np.zeros((64, 512, 512, 3), np.uint8)  # 48 MiB
    np.savez_compressed(tmp_path / "data.npz", images=images, labels=np.zeros(64, np.int32))
    assert (npz(str(tmp_path / "data.npz")).images == 0).all()
    assert array_names(tmp_path / "data.npz") == ["images", "labels"]


def test_arrays_come_back_as_numpy_gives_them(tmp_path):
    arrays = {
        "c": np.arange(24.0).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.array("text"),
        "empty": np.zeros((0, 3), np.uint8),
        "structured": np.zeros(2, [("é", "<f4")]),  # version 3 of the format
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "data.npz", **arrays)
        read = read_arrays(tmp_path / "data.npz")
        assert list(read) == list(arrays)
        for name, value in arrays.items():
            assert read[name].dtype == value.dtype
            np.testing.assert_array_equal(read[name], value)
            assert read[name].flags.writeable
        assert list(read_arrays(tmp_path / "data.npz", "empty", "c")) == ["empty", "c"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_named(tmp_path, compression):
    path = archive(tmp_path / "data.npz", header((2,)) + b"ab", compression)
    with pytest.raises(UserError, match="packed in a way that NumPy does not use"):
        read_arrays(path)


def test_what_is_damaged_or_encrypted_is_named(tmp_path):
    path = archive(tmp_path / "data.npz", header((2,)) + b"ab")
    whole = path.read_bytes()
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    rng = np.random.default_rng(0)
    for content in (encrypted, whole[:40], b"", *(_flipped(whole, rng) for _ in range(300))):
        path.write_bytes(content)
        try:
            with open_array(path, "images") as member:
                assert (member.shape, member.file.read()) == ((2,), b"ab")
        except UserError as error:
            assert "data.npz" in str(error)


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(content)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(content)
