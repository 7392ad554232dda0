"""Our results beside the rows that the papers print, as tables in Markdown.

The published rows come from the caller: {title of a table: its rows}, as in configs/published.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from diffusion_jax.console import printable
from diffusion_jax.evaluation.results import SHOWN, Result


class Row(NamedTuple):
    """Row of a published table of results, None where nothing is printed.

    Attributes:
      model: name in the table.
      source: the paper that prints it, and the table where its others differ.
      config: the config that reproduces it; None where we have none.
      fid: Frechet inception distance.
      sfid: FID of spatial features.
      inception_score: Inception Score.
      precision: improved precision.
      recall: improved recall.
      fvd: Frechet video distance.
      samples: number of samples behind the scores.
      guidance: weight w in (1 + w) conditional - w unconditional, 0 for none.
      sampler: sampler, by our names.
      steps: reverse steps.
      images_seen: training images, as printed, or batch times updates where these are.
    """

    model: str
    source: str
    config: str | None
    fid: float | None = None
    sfid: float | None = None
    inception_score: float | None = None
    precision: float | None = None
    recall: float | None = None
    fvd: float | None = None
    samples: int | None = 50_000
    guidance: float = 0.0
    sampler: str | None = None
    steps: int | None = None
    images_seen: int | None = None


Published = Mapping[str, Sequence[Row]]
Line = dict[str, str]  # cell by title; empty ones may be left out

TITLES = (
    *("model", "images seen", "guidance", "sampling", "samples"),
    *(title for title, _ in SHOWN.values()),
    "source",
)


def tables(results: Mapping[str, Result], published: Published) -> str:
    """Return every published table with our rows below those that they reproduce.

    Args:
      results: ours, by where they were found.
    """
    parts, left = [], dict(results)

    def take(configs: Iterable[str | None], guidance: float | None = None) -> list[Line]:
        """Take the results of these configs out of `left`; None takes any guidance."""
        found = [
            where
            for where, result in left.items()
            if _file(result.config) in configs and guidance in (None, result.guidance)
        ]
        return [_ours(left.pop(where), where) for where in found]

    for title, rows in published.items():
        lines = []
        for row in rows:
            lines.append(_published(row))
            if row.config:
                lines += take([row.config], row.guidance) or [{"model": f"ours, {row.config}"}]
        lines += take({row.config for row in rows if row.config})  # of another guidance
        parts.append(f"## {title}\n\n{markdown(_cells(lines))}")
    if left:
        lines = [_ours(result, where) for where, result in left.items()]
        parts.append(f"## Others\n\n{markdown(_cells(lines))}")
    return "\n\n".join(parts)


def beside_published(result: Result, published: Published) -> str:
    """Return the published rows of a result's config with the result below them."""
    return markdown(compare(result.config, {"": result}, published))


def compare(config: str, results: Mapping[str, Result], published: Published) -> list[list[str]]:
    """Return titles, the published rows of a config, and ours below them.

    Args:
      config: name of a config, of which variants count as the config itself.
      results: ours, by where they were found.
    """
    rows = [row for rows in published.values() for row in rows if row.config == _file(config)]
    ours = [_ours(result, where) for where, result in results.items()]
    return _cells([*map(_published, rows), *ours])


def _file(config: str) -> str:
    """Return 'rin/cifar10' for 'rin/cifar10:2h': the config without its variants."""
    return config.partition(":")[0]


def markdown(table: list[list[str]]) -> str:
    """Return titles and rows as a table in Markdown."""
    titles, *rows = table
    lines = (titles, ["---"] * len(titles), *rows)
    return "\n".join(f"| {' | '.join(map(printable, cells))} |" for cells in lines)


def _published(row: Row) -> Line:
    steps = f"{row.steps} steps" if row.steps else ""
    scores = {name: getattr(row, name, None) for name in SHOWN}
    return _line(row, row.model, row.samples, row.source) | {
        "sampling": ", ".join(filter(None, [row.sampler, steps])),
        **{SHOWN[name][0]: f"{score:g}" for name, score in scores.items() if score is not None},
    }


def _ours(result: Result, where: str) -> Line:
    model = f"ours, {result.config}" if result.config else ""
    sampling = {"": result.sampler, "steps": result.steps, "seed": result.seed}
    scores = {SHOWN[name]: score for name, score in result.metrics.items() if name in SHOWN}
    return _line(result, model, result.counts.get("samples"), where) | {
        "sampling": ", ".join(f"{k} {v}".strip() for k, v in sampling.items() if v is not None),
        **{title: f"{score:.{decimals}f}" for (title, decimals), score in scores.items()},
    }


def _line(row: Row | Result, model: str, samples: int | None, source: str) -> Line:
    return {
        "model": model,
        "images seen": _count(row.images_seen),
        "guidance": f"{row.guidance:g}" if row.guidance else "",
        "samples": _count(samples),
        "source": source,
    }


def _count(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e6:.4g}M" if number >= 1e6 else f"{number:,}"


def _cells(lines: list[Line]) -> list[list[str]]:
    """Return titles and rows, without the columns that are empty throughout."""
    titles = [title for title in TITLES if any(line.get(title) for line in lines)]
    return [titles, *([line.get(title, "") for title in titles] for line in lines)]
