"""Says what the network of a config costs, beside what its paper says.

    python -m launch.describe --config=configs/diffussm/imagenet256.py
    python -m launch.describe --all > docs/costs.md

Parameters by part, and multiply-adds (M: millions, G: billions) of one example, forward, without
guidance, counted in the traced program: those of matrix products and convolutions, and half the
operations of FFTs (1.25 n log2 n for a real one of length n). What a batch computes once, such as
DiffuSSM's kernels, is listed apart.
"""

from launch.common import cli

from absl import flags
from ml_collections import ConfigDict

from configs.catalogue import every_config, link
from configs.published import COSTS, Cost
from configs.variants import file_of
from diffusion_jax.compilation.costs import Costs, costs
from diffusion_jax.console import say
from diffusion_jax.experiment.build import build

COLUMNS = ("config", "parameters", "published", "multiply-adds", "published", "train state")


def describe(found: Costs, published: Cost) -> list[str]:
    """Return the lines about one config, with what the paper prints."""
    lines = [f"{name:20}{count / 1e6:>10.2f} M" for name, count in found.parts.items()]
    lines.append(f"{'parameters':20}{found.parameters / 1e6:>10.2f} M")
    if published.parameters:
        lines[-1] += f"    published {published.parameters:g} M"
    lines.append(f"{'train state':20}{found.state / 2**30:>10.2f} GiB")
    for name, each in found.each.items():
        line = f"{name:20}{each / 1e9:>10.2f} G"
        if name == "matmul" and published.multiply_adds:
            line += f"    published {published.multiply_adds:g} G"
        if shared := found.shared[name]:
            line += f"    and {shared / 1e9:.2f} G a batch"
        lines.append(line)
    if published.difference:
        lines.append(f"The difference: {published.difference}.")
    return lines


def row(name: str, found: Costs, published: Cost) -> str:
    """Return a config's row of the table in Markdown."""
    cells = (
        link(name),
        f"{found.parameters / 1e6:.2f}M",
        f"{published.parameters:g}M" if published.parameters else "",
        f"{sum(found.each.values()) / 1e9:.2f}G",
        f"{published.multiply_adds:g}G" if published.multiply_adds else "",
        f"{found.state / 2**30:.2f} GiB",
    )
    return f"| {' | '.join(cells)} |"


def main(config: ConfigDict, name: str) -> None:
    """Print what the config costs, by parts; `name` is like 'rin/cifar10'."""
    say(*describe(costs(build(config)), COSTS.get(file_of(name), Cost())))


def every() -> None:
    """Print a table of all configs."""
    say(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|")
    for name, config in every_config():
        say(row(name, costs(build(config)), COSTS.get(name, Cost())))


if __name__ == "__main__":
    CONFIG = cli.define_config(instead="all")
    ALL = flags.DEFINE_bool("all", False, "Every config, as a table in Markdown.")
    cli.run(lambda: every() if ALL.value else main(CONFIG.value, cli.config_name()), __doc__)
