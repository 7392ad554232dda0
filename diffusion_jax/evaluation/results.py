"""What an evaluation writes down: the metrics, and all that they are to be read with."""

import dataclasses
from pathlib import Path

from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import RESULT

FILE = "results.json"
METRICS = ("fid", "sfid", "inception_score", "precision", "recall", "kid", "kid_std", "fvd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluation.

    Attributes:
      config: of the run, as 'rin/imagenet64'; '' for images made elsewhere.
      metrics: by the names of METRICS; without what was not computed.
      counts: 'samples', 'reference', ..., see `Accumulator.result`.
      seed: of the samples; like the next ones None for images made elsewhere.
      step: of training, whose EMA weights were sampled from.
      images_seen: in training until then.
      sampler: its name.
      steps: reverse steps.
      guidance: weight w, 0 for none.
      weights: SHA-256 by network, as 'inception', and 'denoiser' where it was an export's.
      reference: `Reference.about`; {} where there was none.
      command: what was called.
      code: the git commit, or the version, that sampled and scored; '' in old files.
    """

    config: str
    metrics: dict[str, float]
    counts: dict[str, int]
    seed: int | None = None
    step: int | None = None
    images_seen: int | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    weights: dict[str, str]
    reference: dict
    command: str
    code: str = ""


def write_result(path: Path, result: Result) -> None:
    """Writes JSON, whole or not at all."""
    write_json(path, dataclasses.asdict(result))


def read_result(path: Path) -> Result:
    """What `write_result` wrote.

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
    """All results in `directory` and below, in the order of their paths.

    Raises:
      UserError: if there is no such directory, or a file is no result.
    """
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}: give the one that holds the runs")
    return {path: read_result(path) for path in sorted(directory.rglob(FILE))}
