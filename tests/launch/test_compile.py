"""A slice that is not there can be compiled for: what fits, and what it costs."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest
import tiny

from configs.catalogue import load
from diffusion_jax.compilation import jobs, slice_table
from diffusion_jax.compilation.chips import CHIPS
from diffusion_jax.compilation.costs import multiply_adds
from diffusion_jax.compilation.programs import (
    Excess,
    Program,
    compile_for,
    largest_batch,
    parse_excess,
)
from diffusion_jax.compilation.slices import SLICES, larger, slice_devices
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import by_example, make_mesh
from launch import compile as command

with_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: the extra `tpu`"
)
GIB = 2**30
EXCESS = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (44.12G) exceeds available HBM (15.75G)."
)


def train_program(config, slice_name: str, batch_size: int) -> Program | Excess:
    mesh = make_mesh(**config.mesh, devices=slice_devices(slice_name))
    return compile_for(jobs.train_step(config, build(config), mesh, batch_size).trace(), mesh)


def program(needed: int) -> Program:
    return Program(CHIPS["TPU v5 lite"], 8, {"code": 0, "temporaries": needed}, 1e15, [], 1.0)


@with_libtpu
def test_a_train_step_of_a_slice():
    """Data parallel: each chip holds the state, and gradients are summed, once and no more."""
    config = tiny.diffussm()
    found = train_program(config, "v5e-8", 16)
    experiment = build(config)
    state = jax.eval_shape(lambda: experiment.init_state(0, 6))
    leaves = jax.tree.leaves(state)
    assert found.memory["arguments"] >= sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert {c.name for c in found.collectives} == {"all-reduce"}
    sent = sum(c.size * c.times for c in found.collectives)
    parameters = 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert parameters <= sent <= 1.2 * parameters + 100
    forward = 2 * sum(multiply_adds(experiment, 16).values())
    assert 2.5 * forward < found.flops < 5 * forward


@with_libtpu
def test_the_command(capsys):
    command.main(tiny.config(train__grid_size=8), "rin/digits", "v5e-8", search=False)
    printed = capsys.readouterr().out
    assert "rin/digits on v5e-8: 8 chips, TPU v5 lite; mesh data 8 x fsdp 1 x tensor 1" in printed
    assert "train step, batch 16, 2 a chip: compiled" in printed
    assert "sampler, 8 samples, 3 steps: compiled" in printed
    assert re.search(r"collectives +\d+ all-reduce of [\d.]+ MB\n", printed)
    assert re.search(r"time at least +[\d.]+ ms: FLOPs [\d.e-]+, HBM [\d.e-]+, links", printed)


@with_libtpu
def test_what_does_not_fit_is_said_in_one_line():
    mesh = make_mesh(devices=slice_devices("v5e-1"))
    long = jax.ShapeDtypeStruct((10 * 2**28,), jnp.float32)
    traced = jax.jit(jnp.sin, in_shardings=by_example(mesh)).trace(long)
    found = compile_for(traced, mesh)
    assert found == Excess(20 * GIB, 15.75 * GIB)  # XLA keeps 0.25 GiB
    assert len(command.describe(found)) == 1


@with_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("slice_name", ["v5e-8", "v4-8"])
@pytest.mark.parametrize(
    "name, fsdp, batch_size", [("rin/imagenet256", 1, 16), ("diffussm/imagenet256", 4, 256)]
)
def test_published_train_steps(name, fsdp, batch_size, slice_name):
    config = load(name)
    config.mesh.fsdp = fsdp
    found = train_program(config, slice_name, batch_size)
    assert isinstance(found, Program)
    assert found.needed < found.chip.hbm
    experiment = build(config)
    each, shared = (multiply_adds(experiment, n) for n in (1, 2))
    forward = 2 * batch_size * (sum(shared.values()) - sum(each.values()))
    assert 2.9 * forward < found.flops < 5 * forward


@with_libtpu
def test_slices_have_their_chips():
    chips_of = {"v4-8": 4, "v5e-1": 1, "v5e-8": 8, "2xv5e-8": 16, "v5p-8": 4, "v6e-16": 16}
    for name, chips in chips_of.items():
        devices = slice_devices(name)
        assert len(devices) == chips
        assert devices[0].device_kind in CHIPS


def test_slices_of_a_family_grow():
    assert larger("v5e-32") == ["v5e-32", "v5e-64", "v5e-128", "v5e-256"]
    assert {name.split("-")[0] for name in SLICES} == {"v4", "v5e", "v5p", "v6e"}


def test_an_unknown_slice_names_the_nearest():
    for name in ("v5e-9", "2xv5e-9"):
        with pytest.raises(UserError, match=r"--slice is 'v5e-9': did you mean v5e-8"):
            slice_devices(name)


def test_without_libtpu(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu is not installed: .* pip install -e '\.\[tpu\]'"):
        slice_devices("v5e-8")


def test_a_bound_is_the_slowest_of_work_memory_and_links():
    chip = CHIPS["TPU v5 lite"]
    found = program(GIB)
    assert found.bounds["FLOPs"] == pytest.approx(1e15 / 8 / 197e12)
    assert found.bounds["HBM"] == pytest.approx(2 * GIB / chip.hbm_bandwidth)  # written and read
    assert found.bound == found.bounds["FLOPs"]


def test_the_excess_is_read_from_the_error():
    assert parse_excess(EXCESS) == Excess(44.12 * GIB, 15.75 * GIB)


@pytest.mark.parametrize(
    "start, capacity, found, tried",
    [
        (1024, 100, 64, [1024, 64]),
        (16, 100, 64, [16, 32, 64, 128]),
        (64, 4, None, [64]),
        (24, 12, None, [24]),
    ],
)
def test_the_largest_batch(start, capacity, found, tried):
    seen = []

    def attempt(batch_size):
        seen.append(batch_size)
        return program(1) if batch_size <= capacity else Excess(batch_size, capacity)

    assert largest_batch(attempt, start, 8) == found
    assert seen == tried


@with_libtpu
def test_a_table_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    tried = []

    def fake(_, mesh):
        tried.append(mesh.size)
        return program(GIB) if mesh.size >= 32 else Excess(40 * GIB, 16 * GIB)

    monkeypatch.setattr(jobs.Job, "trace", lambda _: None)
    monkeypatch.setattr(slice_table, "compile_for", fake)
    file = tmp_path / "slices.md"
    config = tiny.config(train__batch_size=256)
    slice_table.add_rows(file, "v5e-8", [("[rin/b](b)", config)])
    assert tried == [8, 32]  # 16 chips cannot hold what needs 20
    slice_table.add_rows(file, "v5e-8", [("[rin/a](a)", config), ("[rin/b](b)", config)])
    assert tried == [8, 32, 8, 32]
    rows = re.findall(r"^\| \[(.*?)\].*\| (v5e-\d+) \|", file.read_text(), re.M)
    assert rows == [("rin/a", "v5e-32"), ("rin/b", "v5e-32")]
