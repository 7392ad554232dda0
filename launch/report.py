"""Makes one page of a run, WORKDIR/report.html, which needs no other file and no network.

    python -m launch.report --workdir=runs/digits
    python -m launch.report runs/digits
    python -m launch.report runs/digits --serve                   # follows a run that trains
    python -m launch.report --workdir=runs/a,runs/b --out=ab.html   # several runs compared

It shows whatever the run has by now: config, curves, samples, results beside the paper's, speed,
memory, and how to continue. launch.train writes it when it ends. It needs neither data nor devices.

--serve shows the page on this machine alone, at port 8000 or as --serve=PORT says (0 for any that
is free), and loads it again whenever the run has written something, until Ctrl-C.
"""

from launch.common import arguments, cli
from launch.common.report import FILE, page_of, write_page

from pathlib import Path

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Each, Location
from diffusion_jax.reporting.server import serve

if __name__ == "__main__":
    about = "Run directory of launch.train, or several with commas."
    rule = Each(Location(kind="folder"), fewest=1)
    WORKDIRS = arguments.define("workdir", ["."], about, rule)
    about = f"File to write instead of WORKDIR/{FILE}; several runs need it."
    OUT = arguments.file("out", None, about)
    SERVE = arguments.port("serve", 8000, "Serve the page on this machine, at this port.")

    def main() -> None:
        workdirs = [Path(workdir) for workdir in WORKDIRS.value]
        if SERVE.value is not None:
            serve(lambda changed: page_of(workdirs, live=changed), workdirs, SERVE.value)
        elif len(workdirs) > 1 and not OUT.value:
            raise UserError("several runs are given: say with --out=FILE where to write their page")
        else:
            path = Path(OUT.value or workdirs[0] / FILE)
            say(f"Written: {write_page(workdirs, path)}")

    cli.run(main, __doc__, positional="workdir")
