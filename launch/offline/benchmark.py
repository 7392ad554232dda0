"""Time the cases of an hour's benchmark, each written as it ends.

    python -m launch.offline.benchmark --out=benchmark.json

A stopped command goes on with the cases that are not in the file. One that it was stopped in twice
comes last, since it may be what ended the process; one that fails is written with its error.
"""

from launch.common import arguments, cli
from launch.offline.budget import Records
from launch.offline.settings import CASES, PRECISION, TINY, Case

from pathlib import Path
from typing import Any

from absl import flags

from configs.catalogue import load
from diffusion_jax.benchmarks.phases import groups
from diffusion_jax.benchmarks.results import device_name
from diffusion_jax.benchmarks.timing import Ceilings, measure, measure_ceilings
from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.console import say


def timed(case: Case, tiny: bool, seconds: float, ceilings: Ceilings) -> dict[str, Any]:
    """Return the record of a case; see `Measured.record`."""
    config = load(case.config)
    config.update_from_flattened_dict(PRECISION | {"train.batch_size": 2 if tiny else case.batch})
    if tiny:
        config.update_from_flattened_dict(TINY[config.model.name])
    config = variants(config, f"{case.field}={case.value}")
    (found,) = measure(groups([case.phase], config), seconds)
    record = {"batch": config[case.value].train.batch_size, **found.record(ceilings)}
    del record["times_as_fast"]  # of itself: cases are measured one by one
    return record


def main(out: Path, tiny: bool, seconds: float) -> None:
    """Time the cases that are left."""
    records, stage = Records(out.parent), out.stem
    begun = records.read(stage)
    cases, tries = begun.get("cases", {}), begun.get("tries", {})
    left = [case for case in CASES if case.name not in cases]
    left.sort(key=lambda case: tries.get(case.name, 0) > 1)
    ceilings = measure_ceilings(["bfloat16", "float32"], seconds)
    records.update(stage, device=device_name(), ceilings=ceilings._asdict())
    for case in left:
        tries[case.name] = tries.get(case.name, 0) + 1
        records.update(stage, tries=tries)
        try:
            cases[case.name] = timed(case, tiny, seconds, ceilings)
            median = cases[case.name]["milliseconds"]["median"]
            say(f"{case.name}: {median:.4g} ms")
        except Exception as error:  # that a case cannot run here is a result, too
            reason = " ".join(str(error).split())
            cases[case.name] = {"error": f"{type(error).__name__}: {reason[:300]}"}
            say(f"{case.name}: {cases[case.name]['error']}")
        del tries[case.name]
        records.update(stage, cases=cases, tries=tries)
    records.update(stage, finished=True)


if __name__ == "__main__":
    OUT = arguments.file("out", None, "JSON file to write.", required=True)
    flags.DEFINE_bool("tiny", False, "Small networks, to rehearse.")
    arguments.number("seconds", 1.0, "To go on with each program, after five calls.", at_least=0)
    cli.run(lambda: main(Path(OUT.value), flags.FLAGS.tiny, flags.FLAGS.seconds), __doc__)
