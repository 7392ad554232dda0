"""Several runs on one page: curves overlaid, results, configs where they differ, grids."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.digit_scores import read_table
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.experiment.schema import flat_config
from diffusion_jax.reporting.curves import curves_of, speed_curve
from diffusion_jax.reporting.facts import RunRecord, facts_of, read_record
from diffusion_jax.reporting.figures import COLOURS
from diffusion_jax.reporting.page import inline, render
from diffusion_jax.reporting.published import Published, compare
from diffusion_jax.reporting.report import grid_paths


def comparison_page(workdirs: Sequence[Path], published: Published, *, live: str = "") -> str:
    """Return a page that compares runs.

    Args:
      published: the papers' rows, beside which the results of runs of one config are shown.
      live: `Server.changed` of the server that shows it; '' for a file.

    Raises:
      UserError: if a folder is given twice or holds no run, or one of its files is damaged.
    """
    runs = {name: read_record(workdir) for name, workdir in _named(workdirs).items()}
    facts = {name: {"": run.status} | facts_of(run) for name, run in runs.items()}
    return render(
        "comparison.html.j2",
        live=live,
        colours=dict(zip(runs, COLOURS * len(runs), strict=False)),
        facts=_table(facts),
        curves=curves_of(runs),
        speed_curve=speed_curve(runs),
        grids=[
            (name, step, inline(path))
            for name, run in runs.items()
            for step, path in grid_paths(run.workdir)[-1:]
        ],
        results=_results(runs, published),
        digits=_digits(runs),
        config=_differences(runs),
    )


def _named(workdirs: Sequence[Path]) -> dict[str, Path]:
    """Return run directories by the shortest ends of their paths that tell them apart."""
    paths = [workdir.resolve() for workdir in workdirs]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UserError(f"--workdir has {twice} twice: give each run once")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = [os.path.join(*path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, workdirs, strict=True))


def _table(columns: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Return names of the columns, and a row for every key that any column has."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    rows = [[key, *(column.get(key, "") for column in columns.values())] for key in keys]
    return [["", *columns], *rows]


def _results(runs: Mapping[str, RunRecord], published: Published) -> list[list[str]]:
    """Return titles and rows: the papers' of a config that all runs share, then the runs'."""
    found = {
        os.path.join(name, path.parent.relative_to(run.workdir)): result
        for name, run in runs.items()
        for path, result in find_results(run.workdir).items()
    }
    configs = {run.about["config"] for run in runs.values()}
    return compare(configs.pop() if len(configs) == 1 else "", found, published) if found else []


def _digits(runs: Mapping[str, RunRecord]) -> list[list[str]]:
    """Return titles and rows of the quickstart's tables; [] where no run has one."""
    tables = {name: table for name, run in runs.items() if (table := read_table(run.workdir))}
    cells = {name: table.cells() for name, table in tables.items()}
    rows = [[name, *row] for name, (_, *rows) in cells.items() for row in rows]
    return [["run", "images", *next(iter(cells.values()))[0][1:]], *rows] if rows else []


def _differences(runs: Mapping[str, RunRecord]) -> list[list[Any]]:
    """Return names of the runs, and a row for each field in which their configs differ."""
    titles, *rows = _table({name: flat_config(run.config) for name, run in runs.items()})
    rows = [row for row in rows if any(value != row[1] for value in row[2:])]
    return [titles, *rows] if rows else []
