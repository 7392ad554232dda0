"""Writes the weights of a run to a folder that others can read, in safetensors.

    python -m launch.export --workdir=runs/digits --out=exports/digits
    python -m launch.export --workdir=runs/digits --step=2000 --weights=params --out=exports/raw
    python -m launch.export --workdir=runs/xl --dtype=bfloat16 --shard_size=512MiB --out=exports/xl

The folder holds the config, what the weights are and how they were made (provenance.json), and
shards in Hugging Face's convention. launch.train starts from it, and launch.sample, evaluate and
inspect use it, all by --init_from=exports/digits. float32 is exact; bfloat16 takes half the space,
and leaves S4D's parameters in float32.

--layout=official names and cuts the tensors of RIN as its official code does, whose own weights, an
.npz or .safetensors of its variables by name, become such a folder by

    python -m launch.export --official=weights.npz --config=configs/rin/cifar10.py \\
      --out=exports/official

with --step, that of its training, where it is known.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.console import say
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exports import DTYPES, check_new, exact_names, write_export
from diffusion_jax.experiment.start import read_start
from diffusion_jax.experiment.weights import (
    LAYOUTS,
    NEWEST,
    Checkpoint,
    chosen_checkpoint,
    define_checkpoint,
    official_network,
    restore_state,
    tensors_of,
)
from diffusion_jax.experiment.workdir import code_version, read_data, read_run, read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.files import sha256
from diffusion_jax.storage.locks import lock_path
from diffusion_jax.storage.tensors import read_tensors
from launch.common import arguments, cli
from rin_jax.official import params_from_official

WEIGHTS = ("ema", "params")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Found(NamedTuple):
    """Weights to export: parameters, the config of their network, what provenance.json says."""

    params: Any
    config: ConfigDict
    about: dict[str, Any]


def of_run(workdir: Path, weights: str = "ema", checkpoint: Checkpoint = NEWEST) -> Found:
    """Those of a checkpoint.

    Args:
      weights: 'ema' or 'params'.

    Raises:
      UserError: if there is no such checkpoint.
    """
    check_choice("--weights", weights, WEIGHTS)
    config = read_workdir(workdir)
    state = restore_state(workdir, config, build(config), make_mesh(1), checkpoint)
    about = about_run(workdir, config, int(state.step), weights)
    return Found(getattr(state, weights), config, about)


def about_run(workdir: Path, config: ConfigDict, step: int, weights: str) -> dict[str, Any]:
    """What provenance.json says of weights of a run."""
    start = read_start(workdir)
    return {
        "config": read_run(workdir)["config"],
        "weights": weights,
        "step": step,
        "images_seen": step * config.train.batch_size,
        "seed": config.seed,
        "data": read_data(workdir),
        "start": start._asdict() if start else None,
    }


def of_official(path: Path, config: ConfigDict, name: str, step: int | None = None) -> Found:
    """Those of the official code.

    Args:
      path: a file of its variables by name.
      config: of the same network, of the file `name`.
      step: of training, None where it is not known.

    Raises:
      UserError: if they are not the config's.
    """
    params = params_from_official(read_tensors(path), official_network(build(config)))
    about = {
        "config": name,
        "weights": "official",
        "official": {"path": str(path), "sha256": sha256(path)},
        "step": step,
        "images_seen": None if step is None else step * config.train.batch_size,
    }
    return Found(params, config, about)


def export(
    found: Found,
    out: Path,
    layout: str = "ours",
    dtype: str = "float32",
    shard_size: int = 2**31,
    command: str = "",
) -> None:
    """Writes weights to a folder; `command` is what was called.

    Args:
      layout: 'ours' or 'official'.
      dtype, shard_size: see `write_export`.

    Raises:
      UserError: if there is something already, it cannot be written, or has no official layout.
    """
    check_choice("--layout", layout, LAYOUTS)
    experiment = build(found.config)
    tensors = tensors_of(found.params, experiment, layout)
    versions = {"code": code_version(), "jax": jax.__version__, "flax": flax.__version__}
    provenance = found.about | {"layout": layout, "command": command} | versions
    config = found.config.to_json(indent=2) + "\n"
    exact = exact_names(experiment.declared)
    write_export(out, tensors, config, provenance, dtype, shard_size, exact)


def parse_size(text: str) -> int:
    """Bytes of '2GiB'.

    Raises:
      UserError: for anything but a number and a unit.
    """
    found = re.fullmatch(r"(\d+)(KiB|MiB|GiB)", text)
    if not found:
        raise UserError(f"--shard_size is {text!r}: give a number and KiB, MiB or GiB, as 2GiB")
    return int(found[1]) * _UNITS[found[2]]


def main(options: flags.FlagValues) -> None:
    """Exports as the flags say."""
    if bool(options.workdir) == bool(options.official):
        raise UserError(
            "give either --workdir, a run of launch.train, or --official, weights of that code"
        )
    out, shard_size = Path(options.out), parse_size(options.shard_size)
    with lock_path(out):  # before the work
        check_new(out)
        found = _found(options)
        export(found, out, options.layout, options.dtype, shard_size, cli.command())
    files = sorted(out.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    say(f"Written: {out}, {size / 2**20:,.1f} MiB in {len(files)} shard(s)")


def _found(options: flags.FlagValues) -> Found:
    """The weights that the flags name."""
    if options.workdir:
        if options.config:
            raise UserError("--config goes with --official: a run has its own")
        return of_run(Path(options.workdir), options.weights, chosen_checkpoint(options))
    if not options.config:
        raise UserError("--official wants --config, that of the same network")
    for name in ("weights", "best"):
        if options[name].present:
            raise UserError(f"--{name} chooses weights of a run: leave it out with --official")
    path = Path(options.official)
    return of_official(path, options.config, cli.config_name(), options.step)


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.file("official", None, "Weights of the official code of RIN, with --config.")
    cli.define_config()
    arguments.folder("out", None, "Folder to write; must not be there.", required=True)
    arguments.choice("weights", "ema", "The moving average, or the raw parameters.", WEIGHTS)
    arguments.choice("dtype", "float32", "Of the tensors.", DTYPES)
    arguments.choice("layout", "ours", "Names of the tensors.", LAYOUTS)
    flags.DEFINE_string("shard_size", "2GiB", "Of a file, at most.")
    define_checkpoint()
    cli.run(lambda: main(flags.FLAGS), __doc__)
