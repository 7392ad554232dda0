"""Trains a denoiser, from the newest checkpoint in --workdir if there is one.

    python -m launch.train --config=configs/rin/digits.py --workdir=runs/digits
    python -m launch.train --config=configs/rin/digits.py --config.train.steps=500 --workdir=runs/d
    python -m launch.train --config=configs/rin/digits.py --init_from=exports/d --workdir=runs/e

The same command continues a run that was stopped. Every field of a config can be set on the command
line; --help with --config lists them. On several hosts give the same command on each, with
--distributed where the cluster's environment describes them, and a --workdir that all of them see.

--init_from starts from exported weights (launch.export): they are the parameters and their EMA, the
optimizer's moments are fresh, and the learning rate grows from 0 over up to 1,000 steps, whatever
the schedule does. With --init_step=N the data, the noise and the schedule go on as of step N.
"""

from launch.common import arguments, cli, distributed
from launch.common.report import write_report

import shlex
from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.training import Outcome, train
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.metrics import METRICS, read_lines

FILES = {  # that a run may leave
    "report.html": "all of it on one page",
    "checkpoints/": "the state at the last steps, float32 parameters and their EMA",
    "best/": "the state with the lowest FID",
    "grids/": "samples of the EMA",
    "metrics.jsonl": "loss, gradient norm, learning rate; tensorboard/ has them, and grids",
    "speed.jsonl": "seconds a step, images/s, TFLOP/s, share of the chip's peak (mfu)",
    "profile/": "the trace of --profile_steps",
    "config.json": "what was run",
    "parameters.txt": "the size of every parameter",
}


def parse_profile_steps(parts: list[str]) -> tuple[int, int]:
    """Return (first, last) of --profile_steps.

    Raises:
      UserError: for anything but two numbers in order, from 1 on.
    """
    if not (
        len(parts) == 2 and all(p.isdigit() for p in parts) and 1 <= int(parts[0]) <= int(parts[1])
    ):
        raise UserError(f"--profile_steps is {','.join(parts)}: give FIRST,LAST, as 10,12")
    return int(parts[0]), int(parts[1])


def summary(workdir: Path, outcome: Outcome) -> list[str]:
    """Return what to print of a finished run."""
    losses = [record["loss"] for record in read_lines(workdir / METRICS) if "loss" in record]
    loss = f", loss {losses[-1]:.4f}" if losses else ""
    bad = f"; {outcome.skipped} bad records were skipped" if outcome.skipped else ""
    left = {name: about for name, about in FILES.items() if (workdir / name).exists()}
    return [
        f"Done: {outcome.step} steps{loss}{bad}. In {workdir}:",
        *(f"  {name:<15} {about}" for name, about in left.items()),
        f"Sample:    python -m launch.sample --workdir={shlex.quote(str(workdir))} --num=64",
        "Continue:  the same command with a larger --config.train.steps",
    ]


if __name__ == "__main__":
    CONFIG = cli.define_config()
    about = "Run directory; made if it is not there."
    WORKDIR = arguments.folder("workdir", None, about, required=True)
    INIT_FROM = arguments.folder("init_from", None, "Folder of launch.export to start from.")
    INIT_STEP = arguments.count("init_step", 0, "Step to start at, with --init_from.", at_least=0)
    distributed.define_flags()
    PROFILE = flags.DEFINE_list("profile_steps", None, "FIRST,LAST to trace, from where it starts.")

    def main() -> None:
        distributed.initialize(flags.FLAGS)
        workdir = Path(WORKDIR.value)
        outcome = train(
            CONFIG.value,
            workdir,
            name=cli.config_name(),
            command=cli.command(),
            profile_steps=None if PROFILE.value is None else parse_profile_steps(PROFILE.value),
            init_from=Path(INIT_FROM.value) if INIT_FROM.value else None,
            init_step=INIT_STEP.value,
        )
        if not outcome.finished:
            say(
                f"Stopped by {outcome.stopped_by} after step {outcome.step}, saved: "
                "the same command continues."
            )
        elif hosts.is_main():
            write_report(workdir)
            say(*summary(workdir, outcome))

    cli.run(main, __doc__)
