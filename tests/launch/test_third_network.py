"""A network of somebody else's: one file and one config, and every command takes it."""

import json
import shutil
import sys
from pathlib import Path

import commands
import jax
import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.inside import Watched
from diffusion_jax.experiment.networks import Network, find_network
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffussm_jax import NETWORK as DIFFUSSM
from launch.pretrained import DIGITS
from rin_jax import NETWORK as RIN

NETWORK = '''
import jax
from flax import linen as nn

from diffusion_jax import Images, Network, Prediction
from diffusion_jax.fields import count


class MLP(nn.Module):
    """Two layers over all pixels.

    Attributes:
      geometry: what the data are.
      width: units of the hidden layer.
      num_classes: 0 for none.
    """

    geometry: Images
    width: int = count()
    num_classes: int = count(0, at_least=0)

    def initial_carry(self, batch_size):
        return ()

    @nn.compact
    def __call__(self, x_t, noise, condition, carry, *, train=False):
        flat = x_t.reshape(len(x_t), -1)
        labels = jax.nn.one_hot(condition.labels, self.num_classes)
        h = nn.Dense(self.width, name="in")(flat) + nn.Dense(self.width, name="label")(labels)
        h = nn.silu(h + nn.Dense(self.width, name="noise")(noise.gamma[:, None]))
        return Prediction(nn.Dense(flat.shape[-1], name="out")(h).reshape(x_t.shape), carry)


NETWORK = Network(MLP)
'''
CONFIG = """
from configs.base import base, images


def get_config():
    geometry = images(8, channels=1, patch_size=1)
    config = base(dict(name="toy", geometry=geometry, width=64, num_classes=10))
    config.data.name = "digits"
    config.objective.update(prediction="v", loss="v")
    config.optimizer.update(name="adamw", learning_rate=1e-3, warmup_steps=0)
    config.train.update(steps=4, batch_size=16, grid_every=4, grid_size=8, log_every=1)
    config.sampling.update(sampler="ddim", steps=3)
    return config
"""


def drawn(folder: Path) -> np.ndarray:
    return np.load(folder / "samples.npz")["arr_0"]


def test_it_is_trained_sharded_sampled_exported_and_reported(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "toy_jax.py").write_text(NETWORK)
    (mine / "toy.py").write_text(CONFIG)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    with commands.serving() as server:

        def run(*arguments: str, cwd: Path = mine) -> str:
            result = server.run(*arguments, cwd=cwd)
            assert result.code == 0, result.stderr
            return result.stdout

        said = run("launch.train", "--config=mine/toy.py", "--help", cwd=tmp_path)
        assert "--config.model.width=64  (integer, at least 1)\n    units of the hidden lay" in said
        train = ["--config=mine/toy.py", "--config.mesh.fsdp=4", "--workdir=mine/run"]
        assert "on 8 device(s)" in run("launch.train", *train, cwd=tmp_path)
        run("launch.sample", "--workdir=run", "--num=8", "--out=drawn")
        run("launch.export", "--workdir=run", "--out=export", "--dtype=float32")
        run("launch.sample", "--init_from=export", "--num=8", "--out=again")
        run("launch.report", "--workdir=run")
        refused = server.run("launch.inspect", "--workdir=run", cwd=mine)
    assert refused.code == 2
    assert (
        "run: toy declares no figures: set figures='module:Class' in its NETWORK" in refused.stderr
    )
    assert json.loads((mine / "run" / "run.json").read_text())["config"] == "mine/toy"
    assert (mine / "run" / "grids").is_dir()
    np.testing.assert_array_equal(drawn(mine / "drawn"), drawn(mine / "again"))
    assert "<td>adamw</td><td>lamb</td>" in (mine / "run" / "report.html").read_text()

    monkeypatch.syspath_prepend(mine)
    experiment = build(read_workdir(mine / "run"))
    shapes = jax.eval_shape(lambda: experiment.init_state(0, 4))
    kernel = experiment.sharding(shapes, make_mesh(fsdp=4)).params["in"]["kernel"]
    assert kernel.shard_shape((64, 64)) in ((16, 64), (64, 16))
    sys.modules.pop("toy_jax")


def test_the_networks_of_the_project_are_found_by_name():
    assert find_network("rin") is RIN and find_network("diffussm") is DIFFUSSM
    for network in (RIN, DIFFUSSM):
        assert issubclass(network.load_figures(), Watched)
    assert RIN.load_official().params_from_official
    with pytest.raises(UserError, match="no official code of DiffuSSM"):
        DIFFUSSM.load_official()
    assert Network(int).load_figures() is None


@pytest.mark.parametrize(
    "name",
    ["rni", "diffusion", "RIN", "rin.x", "../rin", "/tmp/x", "", "x" * 100, None, 3, ["rin"]],
)
def test_no_other_name_is_imported(name):
    before = set(sys.modules)
    with pytest.raises(
        UserError, match=r"^model\.name is .*(did you mean|choose one of).*(rin|diffussm)"
    ):
        find_network(name)
    assert set(sys.modules) == before


def test_a_config_json_imports_nothing_beside_it(tmp_path):
    """A run or an export from somewhere else: only what is on the path of Python is imported."""
    shutil.copytree(DIGITS, tmp_path / "run")
    (tmp_path / "run" / "evil_jax.py").write_text("raise SystemExit('it was run')")
    config = json.loads((DIGITS / "config.json").read_text())
    config["model"]["name"] = "evil"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError,
        match=r"^model\.name is 'evil': choose one of diffussm, rin "
        r"\(a network NAME is declared in NAME_jax\.py: .* PYTHONPATH\)$",
    ):
        read_workdir(tmp_path / "run")
