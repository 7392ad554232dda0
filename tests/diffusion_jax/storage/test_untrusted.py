"""Files that others give: what is opened, how much of it is read, and where their names lead."""

import os
import socket

import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.untrusted import (
    Unreadable,
    check_before_writing,
    check_memory,
    check_regular,
    inside,
    open_regular,
    read_regular,
)


def traps(folder) -> dict:
    """Paths that hang, never end or cannot be read, and what is said of each."""
    (folder / "directory").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(folder / "socket"))
    for name, target in {
        "dangling": "nothing",
        "itself": "itself",
        "zeros": "/dev/zero",
        "to_fifo": "fifo",
        "to_directory": "directory",
    }.items():
        (folder / name).symlink_to(target)
    return {
        "directory": "is a folder, not a file",
        "fifo": "is a FIFO, not a file",
        "socket": "is a socket, not a file",
        "zeros": "is a device, not a file",
        "to_fifo": "is a FIFO, not a file",
        "to_directory": "is a folder, not a file",
        "dangling": "is a link to nothing, which does not exist",
        "itself": r"cannot be read \(Too many levels of symbolic links\)",
        "nothing": "does not exist",
        "n" * 300: r"cannot be read \(File name too long\)",
        "zero\0byte": r"cannot be read \(embedded null byte\)",
    }


def test_only_regular_files_are_opened(tmp_path):
    for name, message in traps(tmp_path).items():
        for reads in (open_regular, check_regular, sha256, lambda path: read_regular(path, 10)):
            with pytest.raises(Unreadable, match=f"{name} {message}"):
                reads(tmp_path / name)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 7) == b"content"


def test_no_more_is_read_than_a_limit_or_the_memory(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(Unreadable, match="large has more than 1 MiB, the most that is read"):
        read_regular(tmp_path / "large", 2**20)
    with pytest.raises(Unreadable, match=r"large the file takes 1,048,576\.0 GiB, and this mach"):
        check_memory(tmp_path / "large", 2**50, "the file")


def test_names_from_files_stay_in_their_folder(tmp_path):
    for name in ("a", "a/b.npy", "..a", "a..b", "写真", " "):
        assert inside(tmp_path, name, "manifest.json") == tmp_path / name
    for name in (
        *("/etc/passwd", "../a", "a/../../b", "a/..", "..", ".", "", "/", "a//b", "a/"),
        *("a\0b", "a" * 256, 3, None, ["a"]),
    ):
        with pytest.raises(UserError, match=r"manifest\.json names the file .* not in its folder"):
            inside(tmp_path, name, "manifest.json")


def test_a_folder_that_others_filled_is_not_written_through(tmp_path):
    folder = tmp_path / "set"
    check_before_writing(folder)  # there is none yet
    folder.mkdir()
    (folder / "file").touch()
    (folder / "link").symlink_to("file")
    check_before_writing(folder)
    for target in ("../outside", "/etc/passwd", "nothing/../../outside"):
        (folder / "out").symlink_to(target)
        with pytest.raises(UserError, match=f"out is a link to {target}, outside"):
            check_before_writing(folder)
        (folder / "out").unlink()
    os.mkfifo(folder / "lock")
    with pytest.raises(UserError, match="lock is a FIFO"):
        check_before_writing(folder)
