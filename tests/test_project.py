"""The layers of the project, and what its configs count to."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from configs.catalogue import find, load, names, source
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build

ROOT = Path(__file__).parents[1]
# Millions: published, but for RIN's own rows, whose sizes are inferred, and for DiffuSSM, whose
# published count and FLOPs contradict each other.
PARAMETERS = {
    "rin/imagenet64": 214.5,
    "rin/imagenet128": 214.6,
    "rin/imagenet256": 319.0,
    "rin/imagenet512": 320.6,
    "rin/imagenet768": 408.3,
    "rin/imagenet1024": 412.0,
    "rin/imagenet64_small": 157.8,
    "rin/imagenet64_rin": 277.9,
    "rin/imagenet128_rin": 411.7,
    "rin/imagenet256_rin": 412.0,
    "rin/kinetics600": 411.8,
    "rin/cifar10": 30.95,
    "diffussm/imagenet256": 707.3,
    "diffussm/imagenet512": 707.3,
    "diffussm/lsun_church": 706.2,
    "diffussm/lsun_bedroom": 706.2,
    "diffussm/imagenet256_s_400k": 34.0,
    "diffussm/imagenet256_l_400k": 262.6,
    "diffussm/imagenet256_xl_400k": 707.3,
}


@pytest.mark.parametrize("name", names())
def test_every_config_builds_and_opens_with_its_command(name):
    experiment = build(load(name))
    text = (ROOT / source(name)).read_text()
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6
    if name in PARAMETERS:
        digits = 2 if name == "rin/cifar10" else 1
        assert round(count, digits) == PARAMETERS[name]
        assert f"{PARAMETERS[name]:.{digits}f}M" in text
    path, given = find(name).file, re.findall(r"--config=(\S+)", text)
    assert path in {find(each).file for each in given}


def test_configs_are_found_by_name_by_path_and_by_the_names_of_their_presets(tmp_path):
    assert len(names()) == len(set(names())) == 25
    ways = ("rin/imagenet256_rin", "rin/imagenet:256_rin", "configs/rin/imagenet.py:256_rin")
    ways += ("configs/rin/imagenet256_rin.py", "/elsewhere/configs/rin/imagenet256_rin.py")
    for given in ways:
        found = find(given)
        assert (found.file.name, found.argument, found.name) == ("imagenet.py", "256_rin", ways[0])
    assert find("diffussm/lsun_church")[1:] == ("church", "diffussm/lsun_church")
    assert find("configs/rin/cifar10.py:bf16,2h")[1:] == ("bf16,2h", "rin/cifar10:bf16,2h")
    own = tmp_path / "mine" / "toy.py"
    own.parent.mkdir()
    own.write_text("")
    assert find(str(own)) == (own, None, "mine/toy")
    with pytest.raises(UserError, match=r"there is no file 'rin/digit', .*: did you mean rin/digi"):
        find("rin/digit")
    with pytest.raises(UserError, match=r"there is no file 'my/rin/digits\.py'"):
        find("my/rin/digits.py")
    with pytest.raises(UserError, match="rin/imagenet64 is a preset already, leave it out"):
        find("rin/imagenet64:bf16")
    for wrong in ("rin/imagenet", "rin/imagenet:65"):
        with pytest.raises(UserError, match="choose one after the colon, of 64, 128, 256"):
            load(wrong)


def test_configs_cannot_be_misspelt():
    config = load("rin/digits")
    with pytest.raises(AttributeError, match="steps"):
        config.train.stps = 3


def test_files_stay_short():
    for package in ("rin_jax", "diffussm_jax", "diffusion_jax", "configs", "launch"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path


def test_networks_schedules_and_samplers_load_jax_and_flax_only():
    """And two small libraries: einops, and safetensors for weights of the official code."""
    code = (
        "import sys, jax, flax.linen; before = set(sys.modules);"
        "import rin_jax, diffussm_jax; networks = set(sys.modules);"
        "import rin_jax.official;"
        "from diffusion_jax import Condition, Images, Network, NoiseLevel, Objective, Prediction;"
        "from diffusion_jax import Sampling, make_mesh, make_sampler, make_schedule;"
        "tops = lambda names: {name.partition('.')[0] for name in names};"
        "new = lambda names: sorted(tops(names) - tops(before) - sys.stdlib_module_names);"
        "print(new(networks), new(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ours = ["diffusion_jax", "diffussm_jax", "einops", "rin_jax"]
    assert result.stdout.strip() == f"{ours} {[*ours, 'safetensors']}"


def test_imports_stay_light():
    """No TensorFlow, torch or matplotlib behind our packages."""
    code = (
        "import sys, rin_jax, rin_jax.official, launch.train, launch.sample, launch.prepare;"
        "import launch.encode_latents, launch.evaluate, launch.evaluate_videos;"
        "import diffusion_jax.data.prepared, diffusion_jax.data.shards;"
        "import diffusion_jax.evaluation.extractor;"
        "print([m for m in ('tensorflow', 'torch', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_preparing_starts_without_jax():
    """It would take a second, and a device."""
    code = "import sys, launch.prepare; print('jax' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
