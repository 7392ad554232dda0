"""The whole hour of a GPU, small, on a CPU, from a bundle; killed in the middle of each stage."""

import ensurepip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from inception_recipe import inception_tensors

from diffusion_jax.experiment.exports import read_export
from launch.offline import pack, parts

ROOT = Path(__file__).parents[2]
STAGES = ("versions", "benchmark", "fid", "train")
LIMIT = 16 * 2**20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """What pack.sh makes, but with no wheel other than pip's: this environment has the packages."""
    made = tmp_path_factory.mktemp("bundle")
    pieces = tmp_path_factory.mktemp("pieces")
    rng = np.random.default_rng(0)
    for piece in ("code", "wheels", "train", "test", "inception"):
        folder = pieces / piece
        folder.mkdir()
        if piece == "code":
            shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=_not_code)
            (folder / "COMMIT").write_text("the commit\n")
        elif piece == "wheels":
            (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
            shutil.copy(wheel, folder)
            (folder / "requirements.txt").write_text("numpy\n")
        elif piece == "inception":
            np.savez(folder / "inception.npz", **inception_tensors())
        else:
            count = {"train": 40, "test": 24}[piece]
            images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
            np.savez(pieces / f"{piece}.npz", images=images, labels=np.arange(count) % 10)
            pack.prepare(str(pieces / f"{piece}.npz"), folder, piece)
        parts.split(folder, made, piece, LIMIT)
    for name in ("run.sh", "parts.py"):
        shutil.copy(ROOT / "launch" / "offline" / name, made)
    return made


def _not_code(folder: str, names: list[str]) -> set[str]:
    kept = pack.CODE if Path(folder) == ROOT else names
    return {name for name in names if name not in kept or name == "__pycache__"}


class Hour:
    """A bundle's run.sh, in a folder of its own."""

    def __init__(self, bundle: Path, folder: Path):
        self.work, self.out = folder / "hour", folder / "hour" / "out"
        self._command = ["bash", str(bundle / "run.sh"), "--minutes=9", "--tiny", "--part_mib=1"]
        self._command += [f"--work={self.work}", f"--python={sys.executable}"]
        self._command += [f"--stages={','.join(STAGES)}"]  # each call may use their time again

    def run(self, until: Callable[[], object] | None = None) -> int:
        """Run it to its end, or kill it by SIGKILL once `until` returns something true."""
        process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (until and until()):
            time.sleep(0.05)
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(int(children), signal.SIGKILL)
        process.communicate()
        return process.returncode

    def read(self, stage: str) -> dict:
        path = self.out / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else {}


def test_an_hour_that_is_killed_in_every_stage_ends_as_if_it_was_not(bundle, tmp_path):
    hour = Hour(bundle, tmp_path)
    checkpoints = hour.work / "run" / "checkpoints"
    assert hour.run(until=(hour.work / "logs" / "versions.log").exists)
    assert hour.read("versions") == {}
    assert hour.run(until=lambda: len(hour.read("benchmark").get("cases", {})) > 1)
    versions, cases = hour.read("versions"), hour.read("benchmark")["cases"]
    assert hour.run(until=(hour.work / "references" / "test.npz").exists)
    assert hour.run(until=lambda: any(path.name == "50" for path in checkpoints.glob("*")))
    assert hour.run(until=lambda: any((hour.work / "exports").glob("*")))
    assert hour.run(until=lambda: any((hour.work / "scores").glob("*")))
    assert hour.run() == 0
    assert {stage: hour.read(stage)["finished"] for stage in STAGES} == dict.fromkeys(STAGES, True)

    # What was done before a kill was not done again.
    assert hour.read("versions") == versions
    assert versions["code"] == "the commit" and "jax" in versions["packages"]
    found = hour.read("benchmark")["cases"]
    assert {name: found[name] for name in cases} == cases
    assert len(found) == 14
    assert {name for name, case in found.items() if "error" in case} == {
        name for name in found if "cudnn" in name
    }
    assert found["diffussm/imagenet256 ssm model.form=fft"]["of_memory"] > 0

    fid, train = hour.read("fid"), hour.read("train")
    assert fid["fid"] > 0 and fid["images"] == {"test": 24, "train": 40}
    assert train["step"] == train["steps"] == 600
    assert train["slices"][-1]["from"] >= 50 and train["slices"][-1]["to"] == 600
    assert train["score"]["step"] == 600 and train["score"]["counts"]["samples"] == 16

    # The export comes back in parts, and can be gone on from.
    assert [part.path.name for part in parts.find(hour.out)] == train["export"]["parts"]
    list(parts.gather(hour.out, tmp_path / "back"))
    export = read_export(tmp_path / "back" / "export")
    assert export.provenance["dtype"] == "bfloat16" and export.provenance["step"] == 600

    before = {path: path.read_bytes() for path in hour.out.iterdir()}
    assert hour.run() == 0
    assert {path: path.read_bytes() for path in hour.out.iterdir()} == before
