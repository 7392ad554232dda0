"""Meshes: what a device holds of the state, and what slices send to each other."""

import importlib.util
import math
import re
from collections import Counter
from types import SimpleNamespace

import jax
import pytest
import tiny

from configs.catalogue import load
from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.cache import cached_in
from diffusion_jax.compilation.slices import slice_devices
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import arrange, make_mesh

EIGHTH = 1.05 / 8


def state_of(config):
    """(function that makes the state before the first step, its shapes, its sharding on a mesh)."""
    experiment = build(config)

    def init():
        return experiment.init_state(0, 10)

    shapes = jax.eval_shape(init)
    return init, shapes, lambda mesh: experiment.sharding(shapes, mesh)


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
    init, _, sharding = state_of(config)
    most = []
    for fsdp in (1, 8):
        state = jax.jit(init, out_shardings=sharding(make_mesh(fsdp=fsdp)))()
        held = Counter()
        for leaf in jax.tree.leaves(state):
            for shard in leaf.addressable_shards:
                held[shard.device] += shard.data.nbytes
        assert len(held) == 8
        most.append(max(held.values()))
    assert most[1] <= EIGHTH * most[0]


@pytest.mark.parametrize(
    "name", ["rin/cifar10", "rin/imagenet1024", "rin/kinetics600", "diffussm/imagenet256"]
)
def test_a_published_state_is_shared_in_equal_parts(name):
    _, shapes, sharding = state_of(load(name))
    shardings = jax.tree.leaves(sharding(make_mesh(fsdp=8)))
    whole = part = 0
    for leaf, sharding in zip(jax.tree.leaves(shapes), shardings, strict=True):
        whole += leaf.size * leaf.dtype.itemsize
        part += math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    assert part <= EIGHTH * whole


def chip(platform: str, slice_index: int, x: int, y: int) -> SimpleNamespace:
    """What jax tells of a device."""
    return SimpleNamespace(
        platform=platform,
        device_kind="TPU v4",
        id=100 * slice_index + 4 * y + x,
        slice_index=slice_index,
        coords=(x, y, 0),
        core_on_chip=0,
    )


def two_slices(platform: str) -> list[SimpleNamespace]:
    return [chip(platform, i, x, y) for y in range(2) for x in range(4) for i in range(2)]


@pytest.mark.parametrize("fsdp, tensor", [(1, 1), (8, 1), (2, 2)])
def test_only_data_goes_from_slice_to_slice(fsdp, tensor):
    arranged = arrange(two_slices("tpu"), fsdp, tensor)
    assert arranged.shape == (16 // (fsdp * tensor), fsdp, tensor)
    assert len({device.id for device in arranged.flat}) == 16
    for together in arranged:
        assert len({device.slice_index for device in together.flat}) == 1


def test_parameters_cannot_be_shared_between_slices():
    with pytest.raises(UserError, match="must divide the number of devices of each slice, 8"):
        arrange(two_slices("tpu"), 16, 1)


def test_nodes_of_gpus_stay_together_and_may_share_parameters():
    """To jax, a node is a slice."""
    nodes = sorted(two_slices("gpu"), key=lambda device: device.id)
    assert [device.slice_index for device in arrange(nodes, 8, 1)[0].flat] == [0] * 8
    assert arrange(nodes, 16, 1).shape == (1, 16, 1)


with_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: the extra `tpu`"
)


@with_libtpu
def test_slices_send_each_other_sums_alone():
    """A program is that of one slice; what goes to another is marked by its kind."""
    config = tiny.config()
    mesh = make_mesh(fsdp=8, devices=slice_devices("2xv5e-8"))
    with cached_in(None):
        traced = jobs.train_step(config, build(config), mesh, 16).trace()
        hlo = traced.lower().compile().as_text()
    assert set(re.findall(r'_xla_megascale_transfer_type="(\w+)"', hlo)) == {"ALL_REDUCE"}
    assert " all-gather(" in hlo
    assert set(re.findall(r"replica_groups=(\{\{.*?\}\})", hlo)) == {"{{0,1,2,3,4,5,6,7}}"}


@with_libtpu
@pytest.mark.parametrize("name, fsdp", [("v6e-16", 8), ("v4-32", 2), ("v5p-16", 2)])
def test_an_axis_may_take_part_of_a_physical_one(name, fsdp):
    assert make_mesh(fsdp=fsdp, devices=slice_devices(name)).shape["fsdp"] == fsdp
