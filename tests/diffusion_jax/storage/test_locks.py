"""One process at a time writes a folder, and a kill leaves nothing locked."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.storage.locks import lock_folder, lock_path

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from diffusion_jax.storage.locks import {lock}
with {lock}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(lock: str, path: Path) -> subprocess.Popen:
    """A process that holds a lock."""
    command = [sys.executable, "-c", HOLD.format(lock=lock), str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("lock", [lock_folder, lock_path])
def test_another_process_is_refused_and_told_who_is_writing_until_that_is_killed(tmp_path, lock):
    path = tmp_path / "folders" / "out"
    holder = hold(lock.__name__, path)
    message = rf"out is being written by process {holder.pid} on \S+ \(.*lock.*\): let it end"
    with pytest.raises(UserError, match=message) as refused, lock(path):
        pass
    assert "\n" not in str(refused.value)
    holder.kill()
    holder.communicate()
    with lock(path):
        (path.parent / "result").write_text("")
    assert [each.name for each in tmp_path.rglob("*") if not each.is_dir()] == ["result"]


def test_a_process_is_not_refused_what_it_holds(tmp_path):
    """And goes on holding it when an inner block ends."""
    with lock_folder(tmp_path):
        with lock_folder(tmp_path):
            pass
        command = [sys.executable, "-c", HOLD.format(lock="lock_folder"), str(tmp_path)]
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert "UserError" in other.stderr


def test_a_link_in_a_folder_that_was_sent_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / ".lock").symlink_to("../mine")
    with pytest.raises(UserError, match="sent cannot be written"), lock_folder(folder):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_folders_that_stay_empty_are_gone_again(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path / "a" / "b"):
        1 / 0  # noqa: B018
    assert not any(tmp_path.iterdir())


def test_a_lock_that_is_handed_on_is_held_by_one_process_at_a_time(tmp_path):
    """Processes take it as soon as they can, and remove its file every time."""
    code = """
import sys, time
from pathlib import Path
from diffusion_jax.errors import UserError
from diffusion_jax.storage.locks import lock_folder
folder, done = Path(sys.argv[1]), 0
while done < 100:
    try:
        with lock_folder(folder):
            (folder / "alone").touch(exist_ok=False)
            (folder / "alone").unlink()
            done += 1
    except UserError:
        pass
"""
    (tmp_path / "kept").write_text("")
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
