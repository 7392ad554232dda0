"""The table of the smallest slice that holds each config; see launch.compile."""

import re
from pathlib import Path

import jax
from ml_collections import ConfigDict

from configs.catalogue import load, names, source
from configs.variants import file_of
from diffusion_jax.compilation.chips import CHIPS
from diffusion_jax.compilation.programs import Program, compile_for, for_tpu, trace_train
from diffusion_jax.compilation.slices import larger, slice_devices
from diffusion_jax.console import say
from diffusion_jax.experiment.build import Experiment, build
from diffusion_jax.parallel.sharding import make_mesh

HEAD = """\
# The smallest TPU slice that holds each config

The train step at the published global batch, compiled ahead of time for slices of {family}; nothing
was run. HBM is what a chip needs, of {hbm:.0f} GiB; the time is a lower bound, of work, memory and
links. fsdp is `--config.mesh.fsdp`: 8 where the state takes over an eighth of a chip.
Made by `python -m launch.compile --slice={first} --table={file}`.

| config | batch | slice | fsdp | HBM a chip | TFLOPs a step | ms at least | limit |
|---|---|---|---|---|---|---|---|
"""


def add_rows(file: Path, first: str, configs: dict[str, ConfigDict] | None = None) -> None:
    """Adds to the table in `file` the configs, or all, that it does not have yet; row by row.

    Args:
      first: the slice to try first.

    Raises:
      UserError: if there is no such slice, or no libtpu.
    """
    chip = CHIPS[slice_devices(first)[0].device_kind]
    family = first.split("-")[0]
    head = HEAD.format(family=family, hbm=chip.hbm / 2**30, first=first, file=file)
    rows = set()
    if file.exists():
        rows |= set(re.findall(r"^\| \[.*\n", file.read_text(), re.M))
    for name, config in (configs or {name: load(name) for name in names()}).items():
        link = f"[{name}](../{source(file_of(name))})"
        if any(link in row for row in rows):
            continue
        row = f"| {link} | {' | '.join(_cells(config, first))} |\n"
        say(row.rstrip("\n"))
        rows.add(row)
        file.write_text(head + "".join(sorted(rows)))


def _cells(config: ConfigDict, first: str) -> tuple[str, ...]:
    """Cells of a config's row."""
    config = for_tpu(config)
    experiment = build(config)
    batch, least = config.train.batch_size, 0.0
    for name in larger(first):
        devices = slice_devices(name)
        if len(devices) < least:
            continue
        config.mesh.fsdp = _fsdp(experiment, devices)
        mesh = make_mesh(**config.mesh, devices=devices)
        result = compile_for(trace_train(config, experiment, mesh, batch), mesh)
        if isinstance(result, Program):
            limit = max(result.bounds, key=result.bounds.get)
            return (
                str(batch),
                name,
                str(config.mesh.fsdp),
                f"{result.needed / 2**30:.1f} GiB",
                f"{result.flops / 1e12:,.2f}",
                f"{1e3 * result.bound:.3g}",
                limit,
            )
        # Twice the chips need half the memory of each, at best.
        least = len(devices) * result.needed / result.available
        say(f"{name}: {result.needed / 2**30:.1f} GiB a chip or more")
    return str(batch), "none", "", "", "", "", ""


def _fsdp(experiment: Experiment, devices: list[jax.Device]) -> int:
    """Parts of the parameters: one if the state takes at most an eighth of a chip."""
    state = jax.eval_shape(lambda: experiment.init_state(0, 1))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return 1 if size <= CHIPS[devices[0].device_kind].hbm / 8 else min(8, len(devices))
