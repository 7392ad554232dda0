"""SIGKILL at random moments, in every command that takes long: a rerun gives the same result."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import commands
import numpy as np
import pytest
import tiny
from inception_recipe import inception_tensors
from PIL import Image
from safetensors.numpy import save_file

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.weights import layout
from diffusion_jax.experiment.training import train
from launch.pretrained import DIGITS

KILLS = 10
SAVES = {
    "diffusion_jax.experiment.features.BATCH": 4,
    "diffusion_jax.experiment.features.SAVE_EVERY": 0,
}
VOLATILE = {"seconds", "written", "time"}  # fields that tell when something was done

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[commands.Commands]:
    with commands.serving() as served:
        yield served


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with photos, arrays, weights of two networks, and a run with tracked averages."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for index in range(5_000):  # in shards of 2,048
        path = folder / f"photos/class{index % 3}/{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    np.savez(folder / "real.npz", arr_0=rng.integers(0, 256, (16, 8, 8, 1), np.uint8))
    np.savez(folder / "inception.npz", **inception_tensors())
    shapes = layout(Autoencoder(block_channels=(32, 32), layers_per_block=1)).shapes()
    weights = {n: (0.05 * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}
    save_file(weights, folder / "vae.safetensors")
    tracked = dict(posthoc_ema__sigma_rels=(0.1, 0.25), posthoc_ema__every=1)
    config = tiny.config(train__checkpoint_every=1, train__keep_checkpoints=6, **tracked)
    train(config, folder / "run", name="rin/digits")
    return folder


def contents(folder: Path) -> dict[str, object]:
    """What the files below a folder hold, less what tells when they were written."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name.endswith(".lock") or path.name == "LOCK":
            continue
        value: object = path.read_bytes()
        if path.suffix == ".npz":
            with np.load(path) as archive:
                value = {
                    name: (array.dtype.str, array.tobytes()) for name, array in archive.items()
                }
        elif path.suffix == ".json":
            value = _without(json.loads(path.read_text()))
        found[str(path.relative_to(folder))] = value
    return found


def _without(content: object) -> object:
    if isinstance(content, dict):
        return {name: _without(value) for name, value in content.items() if name not in VOLATILE}
    return [_without(part) for part in content] if isinstance(content, list) else content


def check(server: commands.Commands, folder: Path, arguments: list[str], **how) -> None:
    """Kill a command ten times, at moments spread over its whole length.

    Args:
      folder: what the command writes; taken away and written anew where it had ended before a kill.
    """
    began = time.monotonic()
    whole = server.run(*arguments, timeout=900, **how)
    assert whole.code == 0, whole.stderr
    length = time.monotonic() - began
    expected = contents(folder)
    draw, kills = random.Random(0), 0
    shutil.rmtree(folder)
    while True:
        limit = draw.uniform(0.05, 1) * length if kills < KILLS else 900
        result = server.run(*arguments, timeout=limit, **how)
        if result.code == 0:
            assert contents(folder) == expected
            if kills == KILLS:
                return
            shutil.rmtree(folder)
        else:
            assert result.code == -9, result.stderr
            kills += 1


def test_prepare(server, inputs, tmp_path):
    out = tmp_path / "set"
    arguments = [f"--path={inputs}/photos", "--size=6", f"--out={out}", "--workers=1"]
    check(server, out, ["launch.prepare", *arguments])


def test_encode_latents(server, inputs, tmp_path):
    out, weights = tmp_path / "set", f"--weights={inputs}/vae.safetensors"
    arguments = [f"--path={inputs}/photos", weights, f"--out={out}", "--size=8"]
    check(server, out, ["launch.encode_latents", *arguments])


def test_export(server, inputs, tmp_path):
    out = tmp_path / "out"
    arguments = [f"--workdir={inputs}/run", f"--out={out}", "--shard_size=4KiB"]
    check(server, out, ["launch.export", *arguments])


def test_sample(server, inputs, tmp_path):
    out = tmp_path / "out"
    arguments = [f"--workdir={inputs}/run", f"--out={out}", "--num=64", "--batch_size=4"]
    check(server, out, ["launch.sample", *arguments])


def judged(inputs: Path) -> list[str]:
    return [f"--reference={inputs}/reference.npz", f"--inception={inputs}/inception.npz"]


@pytest.fixture(scope="module")
def referred(server, inputs) -> Path:
    made = server.run(
        "launch.reference",
        "--source=npz",
        f"--path={inputs}/real.npz",
        f"--inception={inputs}/inception.npz",
        f"--out={inputs}/reference.npz",
        timeout=600,
        constants=SAVES,
    )
    assert made.code == 0, made.stderr
    return inputs


def test_evaluate(server, referred, tmp_path):
    """Sampling and scoring, in a run that is otherwise left alone."""
    run = tmp_path / "run"
    shutil.copytree(referred / "run", run)
    out = run / "samples"
    arguments = [f"--workdir={run}", "--num=12", "--batch_size=4", *judged(referred)]
    check(server, out, ["launch.evaluate", *arguments], constants=SAVES)


def test_reference(server, inputs, tmp_path):
    out = tmp_path / "out"
    weights = f"--inception={inputs}/inception.npz"
    arguments = ["--source=npz", f"--path={inputs}/real.npz", weights, f"--out={out}/r.npz"]
    check(server, out, ["launch.reference", *arguments], constants=SAVES)


def test_posthoc_ema(server, inputs, tmp_path):
    out = tmp_path / "out"
    arguments = [f"--workdir={inputs}/run", "--sigma_rel=0.12,0.15,0.2", f"--out={out}"]
    check(server, out, ["launch.posthoc_ema", *arguments])


def test_sweep(server, referred, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(DIGITS, run)
    out = run / "samples"
    arguments = [f"--workdir={run}", "--vary=guidance=0,1", "--num=8", "--batch_size=4"]
    arguments += ["--sampler=ddim", "--steps=3", *judged(referred)]
    check(server, out, ["launch.sweep", *arguments], constants=SAVES)
