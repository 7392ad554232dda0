"""What the networks declare is what paths once told, and any network can declare it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn
from jax.sharding import PartitionSpec

from configs.rin import cifar10, kinetics600
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.axes import LAYERS, complete, declarations, declare, facts, is_declared
from diffusion_jax.parallel.sharding import make_mesh, of_state
from diffusion_jax.stack import stack
from diffusion_jax.training.diagnostics import module_norms
from diffusion_jax.training.optimizers import OptimizerConfig, make_optimizer
from diffussm_jax import DiffuSSMBlock

EVERYTHING = tiny.config(
    model__process_layers=(2, 2, 0),
    model__time_on="interface",
    model__condition_on="interface",
    model__decoupled_read=True,
    model__condition_dim=16,
    model__convolution=3,
    model__self_conditioning="latent+interface",
    model__interface_positions="sin_cos_plus_learned",
    model__normalize_source=True,
)
CONFIGS = {
    "RIN": cifar10.get_config(),
    "RIN of videos": kinetics600.get_config(),
    "RIN with every option": EVERYTHING,
    "DiffuSSM": tiny.diffussm(),
    "DiffuSSM by parameters": tiny.diffussm(model__reading="parameters"),
    "DiffuSSM of odd widths": tiny.diffussm(model__dim=18, model__positions="none"),
}
MESHES = [dict(fsdp=4), dict(tensor=2), dict(fsdp=2, tensor=2), dict(tensor=8), {}]

# What told the parameters apart before they declared it, for the two networks.
STACKED = r"^(blocks|process)(_\d+)?$"
UNADAPTED = r"(bias|scale|log_dt|log_decay|frequency)$"
CAPPED = r"(log_dt|log_decay|frequency)$"
EXACT = r"(^|/)ssm/"
SPLIT = {
    r"(up_kernel|up_bias|ssm/\w+_log_dt|ssm/skip|(w1|w2)/(kernel|bias))$": ("tensor",),
    r"(ssm/\w+_(log_decay|frequency)|down_kernel|w3/kernel)$": ("tensor", None),
    r"ssm/\w+_c$": ("tensor", None, None),
}


def layers_by_path(path: str) -> int:
    return sum(bool(re.search(STACKED, part)) for part in path.split("/"))


def spec_by_path(path: str, shape: tuple[int, ...], mesh) -> PartitionSpec:
    axes = [None] * len(shape)
    for pattern, trailing in SPLIT.items():
        if re.search(rf"(^|/){pattern}", path) and mesh.shape["tensor"] > 1:
            for i, axis in enumerate(trailing, start=len(shape) - len(trailing)):
                axes[i] = axis if shape[i] % mesh.shape["tensor"] == 0 else None
    free = [
        (size, i)
        for i, size in enumerate(shape)
        if i >= layers_by_path(path) and axes[i] is None and size % mesh.shape["fsdp"] == 0
    ]
    if free:
        axes[max(free)[1]] = "fsdp"
    return PartitionSpec(*axes)


def by_path(tree, is_leaf=None) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    return {"/".join(str(getattr(e, "key", "")) for e in path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS)
def experiment(request):
    return build(request.param)


def test_every_axis_has_a_name_and_what_is_declared_is_what_the_path_told(experiment):
    declared = by_path(experiment.declared, is_declared)
    shapes = by_path(jax.eval_shape(experiment.init_params, jax.random.key(0)))
    assert list(declared) == list(shapes)
    for path, box in declared.items():
        assert box.value == shapes[path]
        assert None not in box.names and len(box.names) == box.value.ndim, path
        assert box.layers == layers_by_path(path) == box.names.count(LAYERS), path
        assert box.adapted == (not re.search(UNADAPTED, path)), path
        assert box.capped == bool(re.search(CAPPED, path)), path
        assert box.exact == bool(re.search(EXACT, path)), path


@pytest.mark.parametrize("axes", MESHES, ids=str)
def test_every_leaf_of_a_state_is_sharded_as_the_path_told(experiment, axes):
    mesh = make_mesh(**axes)
    state = jax.eval_shape(lambda: experiment.init_state(0, 10))
    shapes = jax.tree_util.tree_leaves_with_path(state)
    shardings = jax.tree.leaves(of_state(state, mesh, experiment.declared))
    for (path, leaf), sharding in zip(shapes, shardings, strict=True):
        name = "/".join(str(getattr(e, "key", getattr(e, "name", e))) for e in path)
        assert sharding.spec == spec_by_path(name, leaf.shape, mesh), name


class Inner(nn.Module):
    """A layer of a network whose author has not read this repository."""

    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.Dense(x.shape[-1], name="dense")(x), None


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x, _ = stack(Inner, 2, "none", False)(name="floors")(x, None)
        kernel_init = declare(nn.initializers.lecun_normal(), "embed", "channels")
        return nn.Dense(x.shape[-1], kernel_init=kernel_init, name="roof")(x), None


class Towers(nn.Module):
    remat: str = "none"

    @nn.compact
    def __call__(self, x):
        x, _ = stack(Outer, 3, self.remat, False)(name="towers")(x, None)
        return nn.Dense(4, name="gate")(x)


X = jnp.ones((2, 8))
NAMES = {
    "gate/bias": (None,),
    "gate/kernel": (None, None),
    "towers/floors/dense/bias": (LAYERS, LAYERS, None),
    "towers/floors/dense/kernel": (LAYERS, LAYERS, None, None),
    "towers/roof/bias": (LAYERS, None),
    "towers/roof/kernel": (LAYERS, "embed", "channels"),
}


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_a_stack_of_any_name_has_layers_declared_or_not(remat):
    declared = declarations(Towers(remat), X)
    assert {path: box.names for path, box in by_path(declared, is_declared).items()} == NAMES
    adapted = by_path(facts(declared, "adapted"))
    assert {path for path, is_adapted in adapted.items() if is_adapted} == {
        path for path in NAMES if path.endswith("kernel")
    }


def test_each_layer_of_a_stack_of_any_name_has_its_own_trust_ratio():
    """LAMB updates the stacked kernels as if every layer were a network of its own."""
    declared = declarations(Towers(), X)
    params = nn.unbox(Towers().init(jax.random.key(0), X)["params"])
    keys = iter(jax.random.split(jax.random.key(1), 6))
    gradient = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), params)
    config = OptimizerConfig("lamb", 0.1, weight_decay=0.5)

    def update(declared, params, gradient):
        optimizer = make_optimizer(config, 10, declared)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    ours = update(declared, params, gradient)["towers"]["floors"]["dense"]["kernel"]
    for layer in np.ndindex(3, 2):
        own = [
            {"k": tree["towers"]["floors"]["dense"]["kernel"][layer]} for tree in (params, gradient)
        ]
        expected = update(complete(own[0]), *own)["k"]
        np.testing.assert_allclose(ours[layer], expected, rtol=1e-5)
    norms = module_norms(params, declared)
    assert {name: norm.shape for name, norm in norms.items()} == {
        "gate": (),
        "towers/floors": (3, 2),
        "towers/roof": (3,),
    }


def test_what_is_not_declared_is_left_to_fsdp():
    """No axis of layers is split, nor any axis over 'tensor' that the table does not know."""
    params = jax.eval_shape(Towers().init, jax.random.key(0), X)["params"]
    shardings = of_state(nn.unbox(params), make_mesh(fsdp=2, tensor=2), declarations(Towers(), X))
    specs = {path: sharding.spec for path, sharding in by_path(shardings).items()}
    assert specs["gate/kernel"] == PartitionSpec("fsdp", None)
    assert specs["towers/floors/dense/kernel"] == PartitionSpec(None, None, None, "fsdp")
    assert specs["towers/roof/kernel"] == PartitionSpec(None, "fsdp", "tensor")


def test_every_axis_of_a_parameter_is_named():
    named = declare(nn.initializers.zeros, "channels")
    with pytest.raises(ValueError, match=r"axes \('channels',\) of a parameter \(2, 3\)"):
        named(jax.random.key(0), (2, 3))


def test_boxes_change_neither_values_nor_results():
    """And a scan of a user's own, which names no axis, takes a block of ours."""

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.scan(
                lambda block, x, _: (block(x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=2,
            )
            return layer(DiffuSSMBlock(state_size=4, name="own"), x, None)[0]

    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    variables = Own().init(jax.random.key(1), x)
    assert complete(variables["params"])["own"]["up_kernel"].layers == 1
    plain = nn.unbox(variables)
    assert all(not isinstance(leaf, nn.meta.AxisMetadata) for leaf in jax.tree.leaves(plain))
    np.testing.assert_array_equal(Own().apply(plain, x), Own().apply(variables, x))
