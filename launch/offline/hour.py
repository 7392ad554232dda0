"""Spend a fixed time on a GPU in order of worth; launch/offline/run.sh calls this.

    python -m launch.offline.hour --minutes=9 --work=hour --out=hour/out \\
      --train=data/cifar10 --test=data/cifar10_test --inception=inception.npz

Stages: versions of everything; the benchmark; FID between training and test images; the row,
trained, exported and scored. Each writes OUT/STAGE.json as it ends. The same command goes on with
what is left, also after a kill. Without --train and the like the pieces of a bundle are taken,
--pieces; a stage whose input is not there is passed over.
"""

from launch.common import arguments, cli
from launch.offline.budget import Budget, Records
from launch.offline.settings import SLOWER
from launch.offline.stages import LEAST, STAGES, Hour, Stage

import signal
import sys
import time
from pathlib import Path

from absl import flags

from diffusion_jax.console import warn
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Choice, Each, Number
from diffusion_jax.storage.locks import lock_folder

INPUTS = {
    "train": "Training images: a directory of launch.prepare, or .npz.",
    "test": "Test images, likewise.",
    "inception": "Weights of FID's Inception.",
    "export": "Folder of launch.export to go on from.",
}


def inputs(options: flags.FlagValues) -> dict[str, Path]:
    """Return the inputs that are there: as given, or pieces of the bundle."""
    found = {}
    for name in INPUTS:
        path = Path(options[name].value or Path(options.pieces or ".") / name)
        if name == "inception" and path.is_dir():
            path = path / "inception.npz"
        if path.exists() and (options[name].value or options.pieces):
            found[name] = path.absolute()
    return found


def main(options: flags.FlagValues) -> None:
    """Run the stages that have something left to do."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    work = Path(options.work).absolute()
    out = Path(options.out).absolute() if options.out else work / "out"
    whole = 60 * options.minutes
    hour = Hour(
        budget=Budget(whole, options.end or time.time() + whole),
        records=Records(out),
        work=work,
        inputs=inputs(options),
        config=options.row,
        scoring=60 * options.score_minutes,
        limit=options.part_mib * 2**20,
        tiny=options.tiny,
    )
    with lock_folder(work):
        out.mkdir(parents=True, exist_ok=True)
        for stage in (each for each in STAGES if each.name in options.stages):
            tell(stage.name, spend(hour, stage, named=flags.FLAGS["stages"].present > 0))
    tell("hour", f"{hour.budget.left():.0f} s are left; what was found is in {out}")
    if failed := [each.name for each in STAGES if hour.records.read(each.name).get("error")]:
        raise UserError(f"{', '.join(failed)} failed: see {work / 'logs'}")


def spend(hour: Hour, stage: Stage, named: bool) -> str:
    """Run a stage if it has something left to do, and return what became of it.

    Args:
      named: whether it was asked for by name, and may use its time again.
    """
    if hour.records.is_finished(stage.name):
        return "done before"
    if missing := [name for name in stage.needs if name not in hour.inputs]:
        return f"passed over, {' and '.join(missing)} not here"
    slower = SLOWER if hour.tiny else 1
    seconds = hour.budget.ceiling(slower * stage.seconds, stage.share)
    if stage.once and not named:
        seconds -= hour.records.read(stage.name).get("seconds", 0.0)
    if seconds < LEAST:
        return f"its time is over; --stages={stage.name} goes on"
    tell(stage.name, f"{seconds:.0f} s at most")
    stage.spend(hour, seconds)
    return "done" if hour.records.is_finished(stage.name) else "the same command goes on"


def tell(stage: str, text: str) -> None:
    """Print a line on the progress of a stage, with the time."""
    warn(f"{time.strftime('%H:%M:%S')} {stage}: {text}")


if __name__ == "__main__":
    arguments.define("minutes", None, "Limit on all of it.", Number(above=0), required=True)
    arguments.number("end", None, "When the time is over, seconds since the epoch; from now on.")
    arguments.folder("work", "hour", "Folder of the run, statistics and logs, kept between calls.")
    arguments.folder("out", None, "Folder of what is to be carried back; WORK/out.")
    arguments.folder("pieces", None, "Unpacked pieces of a bundle.")
    for name, about in INPUTS.items():
        arguments.path(name, None, about)
    names = [stage.name for stage in STAGES]
    choices = Each(Choice(tuple(names)), fewest=1)
    arguments.define("stages", ",".join(names), f"Of {', '.join(names)}.", choices)
    flags.DEFINE_string("row", "rin/cifar10:bf16", "Config of the row that is trained.")
    arguments.number("score_minutes", 1.5, "Set aside for scoring.", at_least=0)
    arguments.count("part_mib", 60, "Size of a part of the export at most, MiB.")
    flags.DEFINE_bool(
        "tiny", False, f"Rehearse with small networks, and {SLOWER} times the limits."
    )
    cli.run(lambda: main(flags.FLAGS), __doc__)
