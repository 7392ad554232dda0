"""Meshes: what a device holds of the state."""

import importlib
import math
from collections import Counter

import jax
import pytest
import tiny

from diffusion_jax.sharding import make_mesh, of_state
from launch.build import build

EIGHTH = 1.05 / 8


def state_of(config):
    """(function that makes the state before the first step, its shapes)."""
    experiment = build(config)

    def init():
        return experiment.init_state(0, 10)

    return init, jax.eval_shape(init)


@pytest.mark.parametrize(
    "config",
    [
        tiny.config(model__latent_dim=64, model__interface_dim=32),
        tiny.diffussm(model__dim=64),
    ],
    ids=["rin", "diffussm"],
)
def test_fsdp_leaves_each_device_its_eighth(config):
    """Of parameters, moments and EMA together, in bytes that really lie there."""
    init, shapes = state_of(config)
    most = []
    for fsdp in (1, 8):
        state = jax.jit(init, out_shardings=of_state(shapes, make_mesh(fsdp=fsdp)))()
        held = Counter()
        for leaf in jax.tree.leaves(state):
            for shard in leaf.addressable_shards:
                held[shard.device] += shard.data.nbytes
        assert len(held) == 8
        most.append(max(held.values()))
    assert most[1] <= EIGHTH * most[0]


@pytest.mark.parametrize(
    "name", ["rin.cifar10", "rin.imagenet1024", "rin.kinetics600", "diffussm.imagenet256"]
)
def test_a_published_state_is_shared_in_equal_parts(name):
    _, shapes = state_of(importlib.import_module(f"configs.{name}").get_config())
    shardings = jax.tree.leaves(of_state(shapes, make_mesh(fsdp=8)))
    whole = part = 0
    for leaf, sharding in zip(jax.tree.leaves(shapes), shardings, strict=True):
        whole += leaf.size * leaf.dtype.itemsize
        part += math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    assert part <= EIGHTH * whole
