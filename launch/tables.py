"""Prints all results found under a directory as the papers' tables, in Markdown.

    python -m launch.tables --path=runs > results.md

A row of ours stands below each published row that has a config, its cells empty where nothing was
run, and one for each evaluation (results.json, written by launch.evaluate). Published figures
are without trailing zeros; compare only rows of like numbers of samples.
"""

from pathlib import Path

from absl import flags

from configs.published import RESULTS, Row
from configs.variants import file_of
from diffusion_jax.console import printable, say
from diffusion_jax.evaluation.results import Result, find_results
from launch.common import arguments, cli

# By metric: title, and decimals of ours.
_METRICS = {
    "fid": ("FID", 2),
    "sfid": ("sFID", 2),
    "inception_score": ("IS", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "kid": ("KID", 5),
    "fvd": ("FVD", 2),
}
_TITLES = [
    "model",
    "images seen",
    "guidance",
    "sampling",
    "samples",
    *(title for title, _ in _METRICS.values()),
    "source",
]
Line = dict[str, str]  # cell by title; empty ones may be left out


def tables(results: dict[str, Result]) -> str:
    """Every published table with ours in it; `results` are by where they were found."""
    parts, left = [], dict(results)
    for title, rows in RESULTS.items():
        lines = []
        for row in rows:
            lines.append(_published(row))
            if row.config:
                ours = _take(left, {row.config}, row.guidance)
                lines += ours or [{"model": f"ours, {row.config}"}]
        lines += _take(left, {row.config for row in rows if row.config})
        parts.append(f"## {title}\n\n{markdown(_cells(lines))}")
    if left:
        lines = [_ours(result, where) for where, result in left.items()]
        parts.append(f"## Others\n\n{markdown(_cells(lines))}")
    return "\n\n".join(parts)


def beside_published(result: Result) -> str:
    """The published rows of a result's config, and the result below them."""
    return markdown(compare(result.config, {"": result}))


def compare(config: str, results: dict[str, Result]) -> list[list[str]]:
    """Titles, the published rows of a config, and ours, by where they were found, below them."""
    rows = [row for rows in RESULTS.values() for row in rows if row.config == file_of(config)]
    ours = [_ours(result, where) for where, result in results.items()]
    return _cells([*map(_published, rows), *ours])


def _take(left: dict[str, Result], configs: set[str], guidance: float | None = None) -> list[Line]:
    """Removes the results of these configs from `left`; of any guidance where none is given."""
    found = [
        where
        for where, result in left.items()
        if file_of(result.config) in configs and guidance in (None, result.guidance)
    ]
    return [_ours(left.pop(where), where) for where in found]


def _published(row: Row) -> Line:
    steps = f"{row.steps} steps" if row.steps else ""
    metrics = {title: getattr(row, name, None) for name, (title, _) in _METRICS.items()}
    return {
        "model": row.model,
        "images seen": _count(row.images_seen),
        "guidance": f"{row.guidance:g}" if row.guidance else "",
        "sampling": ", ".join(filter(None, [row.sampler, steps])),
        "samples": _count(row.samples),
        **{title: f"{value:g}" for title, value in metrics.items() if value is not None},
        "source": row.source,
    }


def _ours(result: Result, where: str) -> Line:
    sampling = {"": result.sampler, "steps": result.steps, "seed": result.seed}
    metrics = {name: result.metrics[name] for name in _METRICS if name in result.metrics}
    return {
        "model": f"ours, {result.config}" if result.config else "",
        "images seen": _count(result.images_seen),
        "guidance": f"{result.guidance:g}" if result.guidance else "",
        "sampling": ", ".join(f"{k} {v}".strip() for k, v in sampling.items() if v is not None),
        "samples": _count(result.counts.get("samples")),
        **{_METRICS[name][0]: f"{v:.{_METRICS[name][1]}f}" for name, v in metrics.items()},
        "source": where,
    }


def _count(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e6:.4g}M" if number >= 1e6 else f"{number:,}"


def _cells(lines: list[Line]) -> list[list[str]]:
    """Titles and rows, of the columns that have a value somewhere."""
    titles = [title for title in _TITLES if any(line.get(title) for line in lines)]
    return [titles, *([line.get(title, "") for title in titles] for line in lines)]


def markdown(table: list[list[str]]) -> str:
    """Titles and rows as a table."""
    titles, *rows = table
    lines = (titles, ["---"] * len(titles), *rows)
    return "\n".join(f"| {' | '.join(map(printable, cells))} |" for cells in lines)


def main(path: Path) -> None:
    """Prints the tables of what is found under `path`."""
    found = find_results(path)
    results = {str(file.parent.relative_to(path)): found[file] for file in found}
    say(*tables(results).splitlines())


if __name__ == "__main__":
    arguments.path("path", None, "Directory that holds the runs.", required=True)
    cli.run(lambda: main(Path(flags.FLAGS.path)), __doc__)
