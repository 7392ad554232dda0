"""The hour of a GPU without a network: parts, wheels, the budget, and which stages are run."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffusion_jax.errors import UserError
from launch.offline import parts
from launch.offline.budget import Budget, Records
from launch.offline.wheels import Target, read_have, required

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A piece: files of some kilobytes, one in a folder, one empty."""
    made = tmp_path / "piece"
    (made / "inner").mkdir(parents=True)
    (made / "a.bin").write_bytes(bytes(range(256)) * 30)
    (made / "inner" / "b.txt").write_text("text" * 1000)
    (made / "empty").touch()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".piece"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_parts_make_the_piece_in_whatever_order_they_arrive(folder, tmp_path):
    made = parts.split(folder, tmp_path / "bundle", "train", 3000)
    assert len(made) > 3
    assert [path.stat().st_size for path in made[:-1]] == [3000] * (len(made) - 1)
    assert 0 < made[-1].stat().st_size <= 3000
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    again = parts.split(copy, tmp_path / "again", "train", 3000)
    assert [path.name for path in again] == [path.name for path in made]
    for path in made:
        assert path.name.endswith(f"-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.part")
    carried, pieces = tmp_path / "carried", tmp_path / "pieces"
    for count, path in enumerate(reversed(made), start=1):
        carried.mkdir()
        path.rename(carried / path.name)
        (line,) = parts.gather(carried, pieces)
        is_last = count == len(made)
        assert line == f"train: {'complete' if is_last else f'{count} of {len(made)} parts'}" + (
            "" if is_last else " have arrived"
        )
        (carried / path.name).unlink()
        carried.rmdir()
    assert contents(pieces / "train") == contents(folder)
    assert list(parts.gather(tmp_path / "bundle", pieces)) == []  # nothing more to unpack


def test_a_damaged_part_is_named_and_nothing_is_unpacked(folder, tmp_path):
    made = parts.split(folder, tmp_path / "bundle", "train", 3000)
    whole = made[1].read_bytes()
    made[1].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    script = [sys.executable, ROOT / "launch" / "offline" / "parts.py"]
    command = [*script, tmp_path / "bundle", tmp_path / "pieces"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {made[1].name} is damaged: its SHA-256 begins with ")
    assert not (tmp_path / "pieces" / "train").exists()
    made[1].write_bytes(whole)
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "train: complete\n", "")


def test_a_new_version_of_a_piece_takes_the_place_of_the_old(folder, tmp_path):
    bundle, pieces = tmp_path / "bundle", tmp_path / "pieces"
    old = parts.split(folder, bundle, "export", 3000)
    old[0].unlink()
    assert "of" in "".join(parts.gather(bundle, pieces))
    (folder / "a.bin").write_text("new")
    new = parts.split(folder, bundle, "export", 3000)
    assert sorted(bundle.iterdir()) == sorted(new)
    assert list(parts.gather(bundle, pieces)) == ["export: complete"]
    assert (pieces / "export" / "a.bin").read_text() == "new"
    (bundle / old[1].name).write_text("")
    with pytest.raises(parts.PartError, match="two versions of export: remove the older parts"):
        list(parts.gather(bundle, pieces))
    with pytest.raises(parts.PartError, match="parts of 0 bytes: give at least one"):
        parts.split(folder, bundle, "export", 0)


def test_the_budget_gives_each_stage_its_time_and_no_more_than_is_left():
    now = time.time()
    hour, minutes = Budget(3600, now + 3600), Budget(540, now + 200)
    assert hour.ceiling(240, 0.1) == 360
    assert hour.ceiling(60, 0) == 60
    assert minutes.ceiling(60, 0.1) == 60
    assert minutes.ceiling(240, 0.1) == pytest.approx(200, abs=1)
    assert minutes.reserve(60) == pytest.approx(50, abs=1)  # a quarter of what is left
    assert hour.reserve(60) == 60
    over = Budget(60, now - 1)
    assert over.left() == over.ceiling(60, 1) == over.reserve(60) == 0


def test_a_command_is_ended_at_its_limit_and_a_failure_is_kept(tmp_path):
    (tmp_path / "long.py").write_text("import time; print('begun'); time.sleep(60)")
    (tmp_path / "wrong.py").write_text("import sys; print('reason'); sys.exit(3)")
    log = tmp_path / "logs" / "stage.log"
    run = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.insert(1, {str(ROOT)!r});"
    run += "from pathlib import Path; from launch.offline.budget import limited; import os;"
    run += f"os.chdir({str(tmp_path)!r}); e = limited(sys.argv[2:], 5, Path(sys.argv[1]));"
    run += "print(e.in_time, e.error)"

    def outcome(module: str) -> str:
        command = [sys.executable, "-c", run, str(log), module]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    start = time.monotonic()
    assert outcome("long") == "False None\n"
    assert time.monotonic() - start < 30
    assert outcome("wrong").startswith("True exit status 3: ")
    assert "reason" in outcome("wrong")
    assert log.read_text().startswith("$ python -m long\nbegun\n$ python -m wrong\n")


def test_a_command_ends_with_the_process_that_started_it(tmp_path):
    (tmp_path / "long.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    run = "import sys; from pathlib import Path; from launch.offline.budget import limited;"
    run += "limited(['long'], 60, Path('log'))"
    environment = {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", run], cwd=tmp_path, env=environment)
    pid, deadline = tmp_path / "pid", time.monotonic() + 30
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = Path("/proc") / pid.read_text() / "stat"
    parent.kill()
    parent.wait()
    while child.exists() and ") Z " not in child.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stages_that_are_done_or_have_no_input_are_passed_over(tmp_path):
    out = tmp_path / "out"
    for stage in ("versions", "benchmark"):
        Records(out).update(stage, finished=True, found=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    Records(out).update("fid", seconds=1.0)
    flags = ["--minutes=1", f"--work={tmp_path / 'work'}", f"--out={out}"]
    command = [sys.executable, "-m", "launch.offline.hour", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1)[1] for line in done.stderr.splitlines()]
    assert lines[:-1] == [
        "versions: done before",
        "benchmark: done before",
        "fid: passed over, train and test and inception not here",
        "train: passed over, train not here",
    ]
    assert lines[-1].endswith(f" s are left; what was found is in {out}")
    assert {name: (out / name).read_bytes() for name in before} == before


def test_a_record_is_merged_and_none_removes_a_field(tmp_path):
    records = Records(tmp_path / "out")
    assert records.read("fid") == {} and not records.is_finished("fid")
    records.update("fid", seconds=1.0, error="once")
    records.update("fid", error=None, fid=3.0)
    assert json.loads((tmp_path / "out" / "fid.json").read_text()) == {
        "finished": False,
        "seconds": 1.0,
        "fid": 3.0,
    }


def test_packages_that_are_there_are_read_from_pip_freeze_and_from_versions_json(tmp_path):
    freeze, versions = tmp_path / "freeze.txt", tmp_path / "versions.json"
    freeze.write_text("Jax==0.11.2\nml_dtypes==0.6.0  # why\nscipy\n-e git+x\nmine @ file:///x\n\n")
    assert read_have(freeze) == {"jax": "0.11.2", "ml-dtypes": "0.6.0", "scipy": "", "mine": ""}
    versions.write_text(json.dumps({"packages": {"ml_dtypes": "0.6.0"}}))
    assert read_have(versions) == {"ml-dtypes": "0.6.0"}
    freeze.write_text("jax>=0.1")
    with pytest.raises(UserError, match=r"has 'jax>=0\.1': give lines as of `pip freeze`"):
        read_have(freeze)


def test_requirements_are_those_of_the_project_and_of_the_extras_that_it_has(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\nname = "Mine"\ndependencies = ["jax>=0.10"]\n[project.optional-dependencies]\n'
        'train = ["mine[data]", "optax"]\ndata = ["grain", "jax>=0.10"]\ndocs = ["mkdocs"]\n'
    )
    assert required(file, ("train", "absent")) == ["jax>=0.10", "optax", "grain"]
    assert any(line.startswith("jax") for line in required(ROOT / "pyproject.toml", ()))


def test_a_platform_stands_for_all_that_are_older():
    flags = Target("python3", "manylinux_2_17_x86_64", {}).flags()
    assert (
        "--platform=manylinux_2_17_x86_64" in flags and "--platform=manylinux2014_x86_64" in flags
    )
    assert "--platform=manylinux_2_18_x86_64" not in flags
    with pytest.raises(UserError, match="--platform is 'linux': give one as manylinux_2_28_x86_64"):
        Target("python3", "linux", {}).flags()
    with pytest.raises(UserError, match="--python is python9, which is not here: give a Python of"):
        Target("python9", "linux", {}).pip("download")


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--minutes is '': give a number, as --minutes=9"),
        (["--minutes=x"], "--minutes is 'x': give a number, as --minutes=9"),
        (["--minutes=1", "--python=python9"], "--python is python9, which is not here"),
        (["--minutes=1", "--minuts=2"], "unknown command line flag"),
        (["--minutes=1", "--stages=all"], "--stages"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(tmp_path, flags, message):
    script = ROOT / "launch" / "offline" / "run.sh"
    python = [f"--python={sys.executable}"] if "--python=python9" not in flags else []
    done = subprocess.run(
        ["bash", script, *python, *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message.lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1
