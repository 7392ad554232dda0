"""The table of the smallest slice that holds each config; see launch.compile."""

import re
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.chips import CHIPS
from diffusion_jax.compilation.costs import state_bytes
from diffusion_jax.compilation.programs import Program, compile_for
from diffusion_jax.compilation.slices import larger, slice_devices
from diffusion_jax.console import say
from diffusion_jax.experiment.build import build
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


def add_rows(file: Path, first: str, configs: Iterable[tuple[str, ConfigDict]]) -> None:
    """Add the configs to the table in `file`, row by row, leaving out those that it has.

    Args:
      first: the smallest slice to try.
      configs: each with the text of its first cell, a link in Markdown.

    Raises:
      UserError: if there is no such slice, or no libtpu.
    """
    chip = CHIPS[slice_devices(first)[0].device_kind]
    family = first.split("-")[0]
    head = HEAD.format(family=family, hbm=chip.hbm / 2**30, first=first, file=file)
    rows = set(re.findall(r"^\| \[.*\n", file.read_text(), re.M)) if file.exists() else set()
    for link, config in configs:
        if any(link in row for row in rows):
            continue
        row = f"| {link} | {' | '.join(_cells(config, first))} |\n"
        say(row.rstrip("\n"))
        rows.add(row)
        file.write_text(head + "".join(sorted(rows)))


def _cells(config: ConfigDict, first: str) -> tuple[str, ...]:
    """Cells of a config's row."""
    config = config.copy_and_resolve_references()
    experiment = build(config)
    batch, least = config.train.batch_size, 0.0
    for name in larger(first):
        devices = slice_devices(name)
        if len(devices) < least:
            continue
        # Parameters, moments and EMA are shared where they would take over an eighth of a chip.
        is_large = state_bytes(experiment) > CHIPS[devices[0].device_kind].hbm / 8
        config.mesh.fsdp = min(8, len(devices)) if is_large else 1
        mesh = make_mesh(**config.mesh, devices=devices)
        say(f"Compiling the train step for {name}...")
        result = compile_for(jobs.train_step(config, experiment, mesh, batch).trace(), mesh)
        if isinstance(result, Program):
            return (
                str(batch),
                name,
                str(config.mesh.fsdp),
                f"{result.needed / 2**30:.1f} GiB",
                f"{result.flops / 1e12:,.2f}",
                f"{1e3 * result.bound:.3g}",
                max(result.bounds, key=result.bounds.__getitem__),
            )
        # Twice the chips need half the memory of each, at best.
        least = len(devices) * result.needed / result.available
        say(f"{name}: {result.needed / 2**30:.1f} GiB a chip or more")
    return str(batch), "none", "", "", "", "", ""
