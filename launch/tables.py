"""Print all results found under a directory as the papers' tables, in Markdown.

    python -m launch.tables --path=runs > results.md

A row of ours stands below each published row that has a config, its cells empty where nothing was
run, and one for each evaluation (results.json, written by launch.evaluate). Published figures
are without trailing zeros; compare only rows of like numbers of samples.
"""

from launch.common import arguments, cli

from pathlib import Path

from absl import flags

from configs.published import RESULTS
from diffusion_jax.console import say
from diffusion_jax.evaluation.results import find_results
from diffusion_jax.reporting.published import tables


def main(path: Path) -> None:
    """Print the tables of the results found under `path`."""
    found = find_results(path)
    results = {str(file.parent.relative_to(path)): found[file] for file in found}
    say(*tables(results, RESULTS).splitlines())


if __name__ == "__main__":
    arguments.path("path", None, "Directory that holds the runs.", required=True)
    cli.run(lambda: main(Path(flags.FLAGS.path)), __doc__)
