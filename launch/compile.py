"""Compiles a config for a TPU slice that is not there: memory, work, traffic, what batch fits.

    python -m launch.compile --config=configs/rin/imagenet256.py --slice=v5e-8
    python -m launch.compile --config=configs/rin/imagenet256.py --slice=v5e-8 --search
    python -m launch.compile --config=configs/rin/imagenet256.py --slice=2xv5e-8
    python -m launch.compile --slice=v5e-8 --table=docs/slices.md

The train step, at config.train.batch_size, and the sampler, at config.train.grid_size, without the
decoder of latents. It needs libtpu (pip install -e '.[tpu]') and no TPU. --search halves the batch
until the train step fits, or doubles it until it does not. 2xv5e-8 are two slices of v5e-8; what
they send to each other is not counted.

--table adds the configs that a table in Markdown does not have yet, each on the smallest slice of
the family, from --slice up, that holds its train step; with --config, that one alone.
"""

from launch.common import arguments, cli

from collections import Counter
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from configs.catalogue import every_config, link
from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.programs import TRIES, Excess, Program, compile_for, largest_batch
from diffusion_jax.compilation.slice_table import add_rows
from diffusion_jax.compilation.slices import slice_devices
from diffusion_jax.console import say
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh, round_up

_GIB = 2**30


def describe(program: Program | Excess) -> list[str]:
    """Return what a program needs, a line for each limit of the chip."""
    needed = f"{program.needed / _GIB:.2f}"
    if isinstance(program, Excess):
        available = f"{program.available / _GIB:.2f}"
        return [f"does not fit: needs {needed} GiB a chip or more, and there are {available}"]
    times, sizes = Counter(), Counter()
    for found in program.collectives:
        times[found.name] += found.times
        sizes[found.name] += found.times * found.size
    moved = [f"{times[name]} {name} of {sizes[name] / 1e6:,.1f} MB" for name in sorted(times)]
    parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in program.memory.items())
    bounds = ", ".join(f"{name} {1e3 * value:.3g}" for name, value in program.bounds.items())
    hbm, each = program.chip.hbm, program.flops / program.chips
    return [
        f"compiled in {program.seconds:.0f} s",
        f"  HBM a chip     {needed} of {hbm / _GIB:.0f} GiB: {parts}",
        f"  FLOPs          {program.flops / 1e12:,.3f} T, {each / 1e12:,.3f} T a chip",
        f"  collectives    {'; '.join(moved) or 'none'}",
        f"  time at least  {1e3 * program.bound:.3g} ms: {bounds}",
    ]


def main(config: ConfigDict, name: str, slice_name: str, search: bool) -> None:
    """Print what the config needs on a slice; `name` is like 'rin/cifar10'.

    Raises:
      UserError: for a config that cannot work, an unknown slice, or without libtpu.
    """
    devices = slice_devices(slice_name)
    mesh = make_mesh(**config.mesh, devices=devices)
    experiment = build(config)
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    say(f"{name} on {slice_name}: {len(devices)} chips, {devices[0].device_kind}; mesh {axes}")

    def report(about: str, job: jobs.Job) -> Program | Excess:
        say(f"Compiling the {about}...")
        result = compile_for(job.trace(), mesh)
        first, *rest = describe(result)
        say(f"{about}: {first}", *rest)
        return result

    def attempt(batch: int) -> Program | Excess:
        about = f"train step, batch {batch}, {batch / len(devices):g} a chip"
        return report(about, jobs.train_step(config, experiment, mesh, batch))

    if search:
        smallest = round_up(1, mesh) * config.train.accumulate
        found = largest_batch(attempt, config.train.batch_size, smallest)
        say(f"largest batch that fits, in {TRIES} tries: {found or 'none'}")
    else:
        attempt(config.train.batch_size)
    count = round_up(config.train.grid_size, mesh)
    about = f"sampler, {count} samples, {config.sampling.steps} steps"
    report(about, jobs.sampler(experiment, mesh, count, config.seed))


if __name__ == "__main__":
    CONFIG = cli.define_config(instead="table")
    about = "As v5e-8, v6e-16, v4-8, v5p-8, or 2xv5e-8."
    SLICE = flags.DEFINE_string("slice", None, about, required=True)
    SEARCH = flags.DEFINE_bool("search", False, "Look for the largest batch that fits.")
    TABLE = arguments.file("table", None, "Markdown file to add rows to.")

    def command() -> None:
        jax.config.update("jax_platforms", "cpu")  # a TPU that is there is left to others
        if TABLE.value:
            configs = [(cli.config_name(), CONFIG.value)] if CONFIG.value else every_config()
            add_rows(Path(TABLE.value), SLICE.value, ((link(n), each) for n, each in configs))
        else:
            main(CONFIG.value, cli.config_name(), SLICE.value, SEARCH.value)

    cli.run(command, __doc__)
