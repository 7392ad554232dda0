"""Files are whole or as they were, whatever fails; a failure is one line that says what to do."""

import errno
import os
import subprocess
import zipfile

import numpy as np
import pytest
from full_disk import files_of_at_most

from diffusion_jax.storage.files import Appender, WriteError, describe, write_atomically


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two"):
        write_atomically(path, lambda partial, text=text: partial.write_text(text))
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode  # others may read it, too


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_left_is_removed_and_what_others_are_writing_is_not(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = {}

    def note(partial):
        names["ours"] = partial.name
        partial.write_text("")

    write_atomically(tmp_path / "file", note)
    host, process, _ = names["ours"].removeprefix("file.").rsplit(".", 3)[:3]
    assert int(process) == os.getpid()
    left, alive = (tmp_path / f"file.{host}.{pid}.ab.partial" for pid in (ended.pid, os.getppid()))
    for each in (left, alive):
        each.write_text("")
    write_atomically(tmp_path / "file", note)
    assert not left.exists()
    assert alive.exists()


def write_zip(partial):
    """As the samples are written: on a full disk, zipfile's own complaint comes last."""
    with zipfile.ZipFile(partial, "w") as archive, archive.open("x", "w") as file:
        for _ in range(100):
            file.write(bytes(1000))


def write_array(partial):
    with partial.open("wb") as file:
        np.save(file, np.zeros(10_000))


@pytest.mark.parametrize("write", [write_zip, write_array])
def test_a_full_disk_is_one_line_with_the_path_and_the_remedy(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    why = r"\((File too large|10000 requested and \d+ written)\)"  # in NumPy's words
    message = rf"file cannot be written {why}: make room there and give the same command again"
    with files_of_at_most(5000), pytest.raises(WriteError, match=message):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    write_atomically(path, write)
    assert path.stat().st_size > 5000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_device_fails_the_write_that_meets_it_and_not_the_close(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    file = Appender(tmp_path / "full")
    with pytest.raises(WriteError, match="No space left on device"):
        file.write(b"record\n")
    file.close()


def test_a_piece_that_did_not_fit_is_taken_back(tmp_path):
    file = Appender(tmp_path / "lines")
    file.write(b"first\n")
    with files_of_at_most(10), pytest.raises(WriteError, match="File too large"):
        file.write(b"the second\n")
    file.write(b"third\n")
    file.close()
    assert (tmp_path / "lines").read_text() == "first\nthird\n"


@pytest.mark.parametrize(
    "code, advice",
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EIO, "check that disk"),
        (errno.EROFS, "check that disk"),
    ],
)
def test_every_failing_disk_has_its_remedy(code, advice):
    error = OSError(code, os.strerror(code), "runs/x")
    assert describe(error).startswith(f"runs/x cannot be written ({os.strerror(code)}): {advice}")


def test_another_refusal_names_the_file():
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/x")
    assert describe(error) == "runs/x: No such file or directory"
