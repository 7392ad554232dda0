"""Score a run at several values of one field: FID against steps, guidance, the width of the EMA."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from diffusion_jax.console import say
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.evaluation.judge import Judge
from diffusion_jax.evaluation.results import FILE, Result, read_result
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.scoring import Job, draw, score
from diffusion_jax.parallel import hosts
from diffusion_jax.reporting.pictures import Picture
from diffusion_jax.training.checkpoints import check_kept

FIELDS = {  # that vary: the type of their values, and what the axis of a plot says
    "steps": (int, "reverse steps"),
    "step": (int, "training step"),
    "guidance": (float, "guidance weight"),
    "sigma_rel": (float, "sigma_rel of the EMA"),
}


def parse_vary(text: str) -> tuple[str, list[float]]:
    """Return ('steps', [10, 20]) for 'steps=10,20'.

    Raises:
      UserError: for another field, or values that it cannot have.
    """
    field, _, values = text.partition("=")
    check_choice("--vary", field, FIELDS)
    try:
        return field, sorted({FIELDS[field][0](value) for value in values.split(",")})
    except ValueError as error:
        raise UserError(f"--vary is {text!r}: give values with commas, as steps=10,20") from error


def jobs(job: Job, field: str, values: Sequence[float]) -> dict[float, Job]:
    """Return `job` with each value of 'steps', 'guidance' or, of the training, 'step'.

    Raises:
      UserError: for values that the run cannot have.
    """
    made = {}
    for value in values:
        if field == "step":
            step = int(value)
            check_kept(job.folder / job.checkpoint.folder, step)
            changes: dict[str, Any] = {"checkpoint": job.checkpoint._replace(step=step)}
        else:
            config = job.config.copy_and_resolve_references()
            config.sampling[field] = value
            build(config)  # refuses a value out of range
            changes = {"config": config}
        made[value] = dataclasses.replace(job, **changes)
    return made


def sweep(
    points: Mapping[float, Job], field: str, judge: Judge, command: str
) -> dict[float, Result]:
    """Return the result at each value; points that were scored before are read, not computed.

    Args:
      points: job by value of `field`.
      command: the command line, for the results.
    """
    scored_by = judge.reference.about(), judge.extract.weights
    found = {}
    for value, job in points.items():
        out, about = draw(job, command)
        result = read_result(out / FILE) if (out / FILE).exists() else None
        hosts.wait_for_all("looked")  # before the main process writes a new one
        if result is None or (result.reference, result.weights["inception"]) != scored_by:
            result = score(out / "samples.npz", out, judge, about)
        found[value] = result
        say(f"{field} {value:g}: FID {result.metrics['fid']:.3f}, {out / FILE}")
    return found


def describe(field: str, results: Mapping[float, Result], command: str) -> Picture:
    """Return title and caption of the picture of a sweep."""
    best = min(results, key=lambda value: results[value].metrics["fid"])
    lowest = results[best]
    caption = (
        f"{lowest.counts['samples']:,} samples at each point, from the same noise, sampled by "
        f"{lowest.sampler}. FID is lowest, {lowest.metrics['fid']:.3g}, at {best:g}. Lower is "
        "better but for Inception Score, precision and recall."
    )
    title = f"Quality by {FIELDS[field][1]}"
    return Picture(f"quality_by_{field}.png", "samples", title, caption, lowest.step or 0, command)
