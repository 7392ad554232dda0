"""Makes one page of a run, WORKDIR/report.html, which needs no other file and no network.

    python -m launch.report --workdir=runs/digits
    python -m launch.report runs/digits

It shows whatever the run has by now: config, curves, samples, results beside the paper's, speed,
memory, and how to continue. launch.train writes it when it ends. It needs neither data nor devices.
"""

from launch.common import arguments, cli
from launch.common.report import write_report

from pathlib import Path

from diffusion_jax.console import say

if __name__ == "__main__":
    WORKDIR = arguments.folder("workdir", ".", "Run directory of launch.train.")
    cli.run(
        lambda: say(f"Written: {write_report(Path(WORKDIR.value))}"), __doc__, positional="workdir"
    )
