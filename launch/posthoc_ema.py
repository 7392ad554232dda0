"""Makes EMA weights of any width from one run that stored its averages.

    python -m launch.train --config=... --workdir=runs/x --config.posthoc_ema.sigma_rels=0.05,0.1
    python -m launch.posthoc_ema --workdir=runs/x --sigma_rel=0.03,0.05,0.1,0.2
    python -m launch.evaluate --init_from=runs/x/ema/step150000_sigma0.2 ...

A width sigma_rel is the standard deviation of the averaged steps, as a fraction of the training
until then (arXiv 2312.02696, section 3). Every width is written as launch.export writes weights, to
WORKDIR/ema or --out. The part of its profile that the stored averages cannot reproduce is printed;
it grows for narrow widths, and for wide ones that reach back beyond the first stored average.
"""

from launch.common import arguments, cli

from pathlib import Path

from diffusion_jax.console import say
from diffusion_jax.experiment.posthoc_ema import reconstruct
from diffusion_jax.experiment.sections import SIGMA_REL
from diffusion_jax.fields import Each

if __name__ == "__main__":
    WORKDIR = arguments.folder("workdir", None, "Run directory of launch.train.", required=True)
    SIGMA_RELS = arguments.define(
        "sigma_rel",
        None,
        "Widths, as 0.03,0.1: above 0, at most 0.2886.",
        Each(SIGMA_REL, fewest=1),
        required=True,
    )
    STEP = arguments.count("step", None, "Step of stored averages; the last.", at_least=0)
    OUT = arguments.folder("out", None, "Folder for the exports; WORKDIR/ema.")

    def main() -> None:
        out = Path(OUT.value) if OUT.value else None
        folders = reconstruct(Path(WORKDIR.value), SIGMA_RELS.value, cli.command(), STEP.value, out)
        say("Written:", *map(str, folders.values()))

    cli.run(main, __doc__)
