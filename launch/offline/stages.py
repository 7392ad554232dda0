"""The stages of an hour of GPU, each a few commands of this project with a limit of time."""

from launch.offline import parts
from launch.offline.budget import GRACE, Budget, Ended, Records, limited
from launch.offline.settings import ROW, TINY_ROW, Row

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_jax.console import warn
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json_lines

EXPORTING = 40.0  # seconds to write an export and cut it into parts
LEAST = 5.0  # seconds; nothing is begun with less


class Hour(NamedTuple):
    """What the stages need.

    Attributes:
      budget, records: the time and what was found.
      work: folder of what stays here: the run, exports, statistics, logs.
      inputs: path by name of the data ('train', 'test'), 'inception', and the 'export' to go on
        from; those that are missing are left out.
      config: of the row.
      scoring: seconds to set aside for scoring.
      limit: size of a part of the export, bytes.
      tiny: whether to rehearse with small networks.
    """

    budget: Budget
    records: Records
    work: Path
    inputs: dict[str, Path]
    config: str
    scoring: float
    limit: int
    tiny: bool

    @property
    def row(self) -> Row:
        """Return how the row is trained and scored."""
        return TINY_ROW if self.tiny else ROW

    def run(self, stage: str, command: list[str], seconds: float, grace: float = GRACE) -> Ended:
        """Run a command for a time at most, and put down its seconds and what went wrong."""
        grace = min(grace, self.budget.left() / 4)
        ended = limited(command, seconds, self.work / "logs" / f"{stage}.log", grace)
        spent = self.records.read(stage).get("seconds", 0.0) + ended.seconds
        stopped = None if ended.in_time else f"at its limit of {seconds:.0f} s"
        facts = {"seconds": round(spent, 1), "error": ended.error, "stopped": stopped}
        self.records.update(stage, **facts)
        if ended.error:
            warn(f"{stage}: {command[0]} failed, see {self.work / 'logs' / f'{stage}.log'}")
        return ended


class Stage(NamedTuple):
    """A stage, whose record is OUT/NAME.json.

    Attributes:
      seconds, share: it takes `seconds` at most, or this share of the whole if that is more.
      once: whether that holds for all calls together, and not for each.
      needs: the inputs without which it cannot begin.
      spend: runs it, for so many seconds at most.
    """

    name: str
    seconds: float
    share: float
    once: bool
    needs: tuple[str, ...]
    spend: Callable[[Hour, float], object]


def versions(hour: Hour, seconds: float) -> None:
    """Record the device and the versions."""
    out = hour.records.out / "versions.json"
    hour.run("versions", ["launch.offline.versions", f"--out={out}"], seconds)


def benchmark(hour: Hour, seconds: float) -> None:
    """Time the cases of `settings.CASES`."""
    out = hour.records.out / "benchmark.json"
    flags = ["--tiny", "--seconds=0"] if hour.tiny else []
    command = ["launch.offline.benchmark", f"--out={out}", *flags]
    hour.run("benchmark", command, seconds, grace=1.0)


def fid(hour: Hour, seconds: float) -> None:
    """Compute the statistics of the data, and FID between them."""
    flags = [f"--{name}={hour.inputs[name]}" for name in ("train", "test", "inception")]
    flags += [f"--references={hour.work / 'references'}", f"--out={hour.records.out / 'fid.json'}"]
    hour.run("fid", ["launch.offline.fid", *flags], seconds, grace=1.0)


def train(hour: Hour, seconds: float) -> None:
    """Train the row until the time is over but for an export and a score, and make those.

    An export that has been trained to its last step is scored alone.
    """
    given = hour.inputs.get("export")
    if given and _begin(given) >= _steps(given):
        hour.records.update("train", finished=_score(hour, given, _begin(given)))
        return
    run, saved = hour.work / "run", hour.budget.reserve(GRACE + EXPORTING)
    scoring = hour.budget.reserve(hour.scoring) if _reference(hour) else 0.0
    if not _is_trained(run) and seconds - saved - scoring >= LEAST:
        begin = _step(run) or (_begin(given) if given else 0)
        ended = hour.run("train", _training(hour, run), seconds - saved - scoring)
        part = {"from": begin, "to": _step(run), "seconds": round(ended.seconds, 1)}
        slices = [*hour.records.read("train").get("slices", []), part]
        hour.records.update("train", slices=slices, **_progress(run))
    step = _step(run)
    if not step or hour.budget.left() < LEAST:
        return
    export = hour.work / "exports" / f"step{step}"
    if not export.exists():
        flags = [f"--workdir={run}", "--dtype=bfloat16", f"--out={export}"]
        hour.run("train", ["launch.export", *flags], hour.budget.left(), grace=1.0)
    if not export.exists():
        return
    made = parts.split(export, hour.records.out, "export", hour.limit)
    hour.records.update("train", export={"step": step, "parts": [path.name for path in made]})
    score = _score(hour, export, step)
    hour.records.update("train", finished=_is_trained(run) and score)


STAGES = (
    Stage("versions", 60, 0, False, (), versions),
    Stage("benchmark", 240, 0.1, True, (), benchmark),
    Stage("fid", 60, 0.1, False, ("train", "test", "inception"), fid),
    Stage("train", 0, 1, False, ("train",), train),
)


def _training(hour: Hour, run: Path) -> list[str]:
    data = hour.inputs["train"]
    changes = hour.row.training | {"data.path": data}
    changes["data.name"] = "tfds" if data.is_dir() else "npz"
    command = ["launch.train", f"--config={hour.config}", f"--workdir={run}"]
    command += [f"--config.{field}={value}" for field, value in changes.items()]
    if export := hour.inputs.get("export"):
        command += [f"--init_from={export}", f"--init_step={_begin(export)}"]
    return command


def _score(hour: Hour, export: Path, step: int) -> bool:
    """Score samples of an export if there is time; return whether there is a score of it."""
    reference, row = _reference(hour), hour.row
    if reference is None or hour.budget.left() < LEAST:
        return False
    out = hour.work / "scores" / f"step{step}"
    flags = [f"--init_from={export}", f"--num={row.num}", f"--batch_size={row.batch}"]
    flags += ["--sampler=ddim", f"--steps={row.steps}", f"--out={out}"]
    flags += [f"--reference={reference}", f"--inception={hour.inputs['inception']}"]
    hour.run("train", ["launch.evaluate", *flags], hour.budget.left() - 2, grace=1.0)
    result = out / "results.json"
    if result.exists():
        hour.records.update("train", score=json.loads(result.read_text()))
    return result.exists()


def _reference(hour: Hour) -> Path | None:
    """Return the statistics of the training images, if they and an Inception are there."""
    path = hour.work / "references" / "train.npz"
    return path if path.exists() and "inception" in hour.inputs else None


def _step(run: Path) -> int:
    """Return the step of the newest checkpoint of a run, 0 where there is none."""
    names = [path.name for path in (run / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _begin(export: Path) -> int:
    """Return the step of training of an export, 0 where it is not known."""
    return json.loads((export / "provenance.json").read_text())["step"] or 0


def _steps(folder: Path) -> int:
    """Return the last step of a run or an export, by its config."""
    return json.loads((folder / "config.json").read_text())["train"]["steps"]


def _is_trained(run: Path) -> bool:
    """Return whether a run has made its last step."""
    return (run / "config.json").exists() and _step(run) >= _steps(run)


def _progress(run: Path) -> dict[str, Any]:
    """Return the newest loss and speed of a run, and how far it has come."""
    found: dict[str, Any] = {"step": _step(run)}
    if (run / "config.json").exists():
        found["steps"] = _steps(run)
    for name in ("metrics", "speed"):
        if records := read_json_lines(run / f"{name}.jsonl", schemas.RECORD):
            found[name] = records[-1]
    return found
