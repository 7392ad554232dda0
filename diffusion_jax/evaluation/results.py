"""Results of evaluations: the metrics, and the provenance that they are to be read with."""

import dataclasses
from pathlib import Path
from typing import Any

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import RESULT

FILE = "results.json"
# Title of each metric, and the decimals that are worth printing.
METRICS = {
    "fid": ("FID", 2),
    "sfid": ("sFID", 2),
    "inception_score": ("IS", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "kid": ("KID", 5),
    "kid_std": ("KID deviation", 5),
    "fvd": ("FVD", 2),
}
SHOWN = {name: shown for name, shown in METRICS.items() if name != "kid_std"}  # in tables and plots


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one evaluation.

    Attributes:
      config: config of the run, as 'rin/imagenet64'; '' for images made elsewhere.
      command: the command line.
      metrics: value by name in `METRICS`, for the metrics that were computed.
      counts: 'samples', 'reference', ...; see `Accumulator.result`.
      seed: seed of the samples; None, as for the fields below, for images made elsewhere.
      step: training step of the EMA weights that were sampled.
      images_seen: training images until then.
      sampler: name of the sampler.
      steps: reverse steps.
      guidance: weight w, 0 for none.
      weights: SHA-256 by network: 'inception' or 'i3d', and 'denoiser' for an export.
      reference: `Reference.about`; {} where there was none.
      code: the git commit, or the version, that sampled and scored; '' in old files.
    """

    config: str
    command: str
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    step: int | None = None
    images_seen: int | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    reference: dict[str, Any] = dataclasses.field(default_factory=dict)
    code: str = ""


def write_result(path: Path, result: Result) -> None:
    """Write a result as JSON, atomically."""
    write_json(path, dataclasses.asdict(result))


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
      UserError: for any other file.
    """
    content = read_json(path, RESULT)
    for name in content:
        check_choice(f"a field of {path}", name, Result.__dataclass_fields__)
    result = Result(**content)
    for name in result.metrics:
        check_choice(f"a metric of {path}", name, METRICS)
    return result


def find_results(directory: Path) -> dict[Path, Result]:
    """Return the results in `directory` and below by path, in the order of the paths.

    Raises:
      UserError: if there is no such directory, or a results.json is damaged.
    """
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}: give the one that holds the runs")
    return {path: read_result(path) for path in sorted(directory.rglob(FILE))}
