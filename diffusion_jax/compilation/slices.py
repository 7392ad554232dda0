"""TPU slices by their cloud names, to compile for on a machine that has none."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from diffusion_jax.errors import UserError, check_choice

# Topologies by number of chips. The cloud's names of v4 and v5p count cores, two to a chip.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"}
_FAMILIES = {"v4": (2, _CUBES), "v5e": (1, _FLAT), "v5p": (2, _CUBES), "v6e": (1, _FLAT)}

# Cloud name -> topology, as 'v4-8' -> 'v4:2x2x1'.
SLICES = {
    f"{family}-{count * chips}": f"{family}:{shape}"
    for family, (count, shapes) in _FAMILIES.items()
    for chips, shape in shapes.items()
}

# libtpu would ask the cloud's metadata server for these, which only a TPU machine can reach. The
# values need not match the slice that is described: they only keep libtpu from asking.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing is run: several processes may compile
}


def larger(name: str) -> list[str]:
    """Return the slice and all larger ones of its family, smallest first.

    Raises:
      UserError: if it is not one of `SLICES`.
    """
    check_choice("--slice", name, SLICES)
    family = [other for other in SLICES if other.split("-")[0] == name.split("-")[0]]
    return family[family.index(name) :]


def slice_devices(name: str) -> list[jax.Device]:
    """Return one device per chip of a slice, to compile for; nothing can be run on them.

    Args:
      name: one of `SLICES`, or several of one kind, as '2xv5e-8'.

    Raises:
      UserError: if there is no such slice, or libtpu is not installed.
    """
    several = re.fullmatch(r"([1-9]\d*)x(.*)", name, re.DOTALL)
    count, name = (int(several[1]), several[2]) if several else (1, name)
    check_choice("--slice", name, SLICES)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu is not installed: compiling for TPUs needs it; pip install -e '.[tpu]'"
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    cores = {"chip_config_name": "megacore"} if name.startswith(("v4", "v5p")) else {}
    topology = topologies.get_topology_desc(SLICES[name], "tpu", num_slices=count, **cores)
    return topology.devices
