"""The report of a run: what its directory holds, on one page that needs nothing else."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.evaluation.digit_scores import read_table
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.experiment.schema import flat_config
from diffusion_jax.experiment.workdir import defaults_of
from diffusion_jax.reporting.curves import curves_of, speed_curve
from diffusion_jax.reporting.facts import RunRecord, facts_of, speed_of
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.page import Inline, inline, render
from diffusion_jax.reporting.pictures import FOLDER, SECTIONS, read_pictures
from diffusion_jax.reporting.published import Published, compare

MOST_GRIDS = 24
_NUMBER = re.compile("[0-9]+")

FileConfig = Callable[[str], tuple[str, ConfigDict] | None]


def report_page(
    run: RunRecord, published: Published, file_config: FileConfig, *, live: str = ""
) -> str:
    """Return the page of a run.

    Args:
      published: the papers' rows, beside which the results are shown.
      file_config: name of a config -> (its file, the config), None where there is none.
      live: `Server.changed` of the server that shows it; '' for a file.

    Raises:
      UserError: if one of the run's files is damaged.
    """
    workdir, name = run.workdir, run.about["config"]
    found = find_results(workdir)
    where = {str(path.parent.relative_to(workdir)): result for path, result in found.items()}
    results = compare(name, where, published) if found else []
    return render(
        "report.html.j2",
        live=live,
        title=run.name,
        finished=run.is_finished,
        status=run.status,
        facts=facts_of(run),
        curves=curves_of({"": run}),
        grids=_grids(workdir),
        **_pictures(workdir),
        results=list(zip(*results, strict=True)),  # a column for each: a phone has room for few
        published=len(results) - 1 - len(found),
        digits=read_table(workdir),
        speed=speed_of(run.speeds),
        speed_curve=speed_curve({"": run}),
        **_config(run.config, file_config(name)),
        **_commands(workdir, run.config, run.about["command"]),
    )


def grid_paths(workdir: Path) -> list[tuple[int, Path]]:
    """Return the sample grids of a run by their steps, in order."""
    paths = [path for path in (workdir / "grids").glob("*.png") if _NUMBER.fullmatch(path.stem)]
    return sorted((int(path.stem), path) for path in paths)


def _grids(workdir: Path) -> list[tuple[int, Inline]]:
    """Return sample grids by step, an even choice of them where there are many."""
    grids = grid_paths(workdir)
    chosen = [grids[place] for place in evenly(len(grids), MOST_GRIDS)]
    return [(step, inline(path)) for step, path in chosen]


def _pictures(workdir: Path) -> dict[str, list]:
    """Return the pictures of each section of the page, with their captions."""
    shown = [(each, inline(workdir / FOLDER / each.file)) for each in read_pictures(workdir)]
    return {
        section: [(picture, image) for picture, image in shown if picture.section == section]
        for section in SECTIONS
    }


def _config(config: ConfigDict, written: tuple[str, ConfigDict] | None) -> dict[str, Any]:
    """Return the fields that differ from the config's file, and those that are not the defaults."""
    file, of_file = written or ("", None)
    ours = flat_config(config)
    return {
        "file": file,
        "changed": _differing(ours, flat_config(of_file)) if of_file else [],
        "unusual": _differing(ours, flat_config(defaults_of(config.model))),
    }


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, our value, their value) of fields that differ, '' for what is not there."""
    pairs = [(name, ours.get(name, ""), theirs.get(name, "")) for name in ours | theirs]
    return [(name, our, their) for name, our, their in pairs if our != their]


def _commands(workdir: Path, config: ConfigDict, train: str) -> dict[str, str]:
    """Return what the page's commands are made of."""
    shorter = re.sub(r" --config\.train\.steps=\S+", "", train)
    files = {"reference": "reference.npz", "inception": "inception.npz"}
    judge = [f"--{name}={shlex.quote(config.evaluation[name] or files[name])}" for name in files]
    return {
        "at": f"--workdir={shlex.quote(str(workdir))}",
        "train": train,
        "longer": f"{shorter} --config.train.steps={2 * config.train.steps}",
        "kind": config.model.geometry.kind,
        "data": config.data.name,
        "judge": " ".join(judge),
    }
