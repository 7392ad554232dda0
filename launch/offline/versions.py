"""Record what runs here: the device, its driver, Python, and every package with its version.

    python -m launch.offline.versions --out=versions.json

The file can be given to launch/offline/pack.sh as --have, for the next bundle.
"""

from launch.common import arguments, cli

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import jax
from absl import flags

from diffusion_jax.console import say
from diffusion_jax.experiment.workdir import code_version
from diffusion_jax.storage.json_files import write_json

QUERY = ("--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader")


def driver() -> str:
    """Return what nvidia-smi says of the GPUs, '' where it is not there."""
    if not shutil.which("nvidia-smi"):
        return ""
    return subprocess.run(["nvidia-smi", *QUERY], capture_output=True, text=True).stdout.strip()


def main(out: Path) -> None:
    """Write the record."""
    device = jax.devices()[0]
    found = importlib.metadata.distributions()
    record = {
        "finished": True,
        "code": code_version(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "platform": device.platform,
        "platform_version": device.client.platform_version,
        "device_memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "driver": driver(),
        "cpu_cores": os.cpu_count(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "packages": dict(sorted({each.name: each.version for each in found}.items())),
    }
    write_json(out, record)
    say(f"{record['devices']} x {record['device']}, jax {jax.__version__}: {out}")


if __name__ == "__main__":
    OUT = arguments.file("out", None, "JSON file to write.", required=True)
    cli.run(lambda: main(Path(flags.FLAGS.out)), __doc__)
