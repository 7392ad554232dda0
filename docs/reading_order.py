"""Writes docs/reading_order.md: which files to read to understand training, in which order.

    python docs/reading_order.py > docs/reading_order.md

The files are those that the imports reach from the training page and the network, less `SKIPPED`;
line counts and sentences are read from them. tests/test_reading_order.py compares the page.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
START = "diffusion_jax/experiment/training.py"
MODELS = {"RIN": "rin_jax/model.py", "DiffuSSM": "diffussm_jax/model.py"}
MOST_FILES, MOST_LINES = 14, 2000

# Beginnings of paths that are not followed, by the reason that the page gives.
SKIPPED = {
    "Opening configs, run directories and exports; what runs beside training, as sample grids": (
        "diffusion_jax/experiment/",
        "configs/",
        "launch/",
    ),
    "Reading data sets; the stream, which decides their order, is listed": ("diffusion_jax/data/",),
    "Saving, stopping, timing, and averages for later": (
        "diffusion_jax/training/checkpoints",
        "diffusion_jax/training/preemption",
        "diffusion_jax/training/speed",
        "diffusion_jax/training/power_ema",
    ),
    "A batch of images, videos or moments as x0 and condition": ("diffusion_jax/training/batches",),
    "Where arrays live on a mesh of devices, and layers as one scan": (
        "diffusion_jax/parallel/",
        "diffusion_jax/stack",
    ),
    "Files, records and reports; checks of fields, and messages": (
        "diffusion_jax/storage/",
        "diffusion_jax/reporting/",
        "diffusion_jax/fields",
        "diffusion_jax/errors",
        "diffusion_jax/console",
        "rin_jax/checks",
    ),
    "Latents, sampling, scores, and costs of programs": (
        "diffusion_jax/autoencoder/",
        "diffusion_jax/sampling/",
        "diffusion_jax/evaluation/",
        "diffusion_jax/compilation/",
        "diffusion_jax/benchmarks/",
    ),
    "Formulas of gamma(t), and of the variational bound": (
        "diffusion_jax/diffusion/schedules",
        "diffusion_jax/diffusion/discrete",
        "diffusion_jax/diffusion/variational",
    ),
    "Dense layers and norms": ("diffusion_jax/normalisation", "rin_jax/layers"),
    "Pixels as tokens, embeddings, and convolutions: what they compute, their first lines say": (
        "diffusion_jax/geometry",
        "rin_jax/conditioning",
        "rin_jax/positions",
        "rin_jax/convolution",
        "diffussm_jax/embeddings",
        "diffussm_jax/convolution",
    ),
}

# What to read first; files that are not named here come last.
ORDER = (
    START,
    "diffusion_jax/data/stream.py",
    "diffusion_jax/training/loop.py",
    "diffusion_jax/training/step.py",
    "diffusion_jax/training/state.py",
    "diffusion_jax/diffusion/objectives.py",
    "diffusion_jax/diffusion/process.py",
    "diffusion_jax/denoiser.py",
    *("rin_jax/model.py", "rin_jax/block.py", "rin_jax/attention.py"),
    *("diffussm_jax/model.py", "diffussm_jax/block.py", "diffussm_jax/ssm.py"),
    "diffussm_jax/s4d.py",
    "diffusion_jax/training/optimizers.py",
)


def imported(path: str) -> Iterator[str]:
    """Yield the project's files that a file imports when it runs."""
    tree = ast.parse((ROOT / path).read_text())
    for_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if node in for_types or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        parents = [node.module] if isinstance(node, ast.ImportFrom) else []
        names = [alias.name for alias in node.names]
        for module in [*parents, *(".".join([*parents, name]) for name in names)]:
            file = f"{module.replace('.', '/')}.py"
            if (ROOT / file).is_file():
                yield file


def files_to_read(network: str) -> list[str]:
    """Return the files of the training path of a network, in the order to read."""
    others = tuple(f"{path.split('/')[0]}/" for name, path in MODELS.items() if name != network)
    skipped = sum(SKIPPED.values(), others)
    found, left = set(), [START, MODELS[network], "diffusion_jax/data/stream.py"]
    while left:
        file = left.pop()
        found.add(file)
        left += [each for each in imported(file) if not each.startswith(skipped)]
        left = [each for each in left if each not in found]
    return sorted(found, key=lambda each: (ORDER.index(each) if each in ORDER else 99, each))


def table(files: list[str]) -> str:
    """Return a row for each file: its place, its length in lines and what it is about."""
    lines = ["| | file | lines | |", "|---|---|---|---|"]
    total = 0
    for place, file in enumerate(files, 1):
        text = (ROOT / file).read_text()
        about = re.split(r"(?<=\.)\s|\n\n", ast.get_docstring(ast.parse(text)))[0]
        about = " ".join(about.split()).rstrip(".:").replace("|", "\\|")
        length = len(text.splitlines())
        total += length
        lines.append(f"| {place} | [{file}](../{file}) | {length} | {about} |")
    return "\n".join([*lines, f"| | {len(files)} files | {total:,} | |"])


def page() -> str:
    """Return the page."""
    parts = [
        "# Read the code in an hour",
        "What happens when a network trains is in these files; read them in this order. Each "
        "sentence is the file's own, and the lines are all lines, comments and blank ones too.",
    ]
    for network in MODELS:
        parts += [f"## {network}", table(files_to_read(network))]
    reasons = [
        f"- {reason}: {', '.join(f'`{path}`' for path in paths)}"
        for reason, paths in SKIPPED.items()
    ]
    parts += [
        "## What is left out",
        f"The lists are what the imports reach from `{START}` and from the network's `model.py`, "
        "but for files that one can take at their word, and for the other network:",
        "\n".join(reasons),
        "`python docs/reading_order.py > docs/reading_order.md` writes this page anew; a test "
        f"checks it, and that a list has at most {MOST_FILES} files and {MOST_LINES:,} lines.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
