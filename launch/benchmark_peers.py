"""Times our networks beside public PyTorch ones of the same sizes, in turn, on the same machine.

    pip install -e '.[peers]'
    python -m launch.benchmark_peers --config=configs/rin/cifar10.py --config.train.batch_size=8
    python -m launch.benchmark_peers --config=configs/diffussm/imagenet256.py \\
      --config.train.batch_size=2 --config.model.layers=4 --out=docs/benchmarks/diffussm_peers

The baseline of RIN is that of the package rin-pytorch; those of DiffuSSM are DiTs of diffusers, as
wide and as deep, with patches of 1 and of 2. All run in float32, the baselines eager and by
torch.compile. What one side lacks is off on the other: attention between patches there, dropout,
drop path and remat here. A train step is the loss with its gradient, the pass that makes carried
latents, AdamW and EMA; a reverse step is one pass of the network and DDPM's arithmetic. Sizes
differ where a baseline offers no choice: the multiply-adds of one forward pass of one example stand
beside the times.
"""

from launch.common import arguments, cli

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks import peers, phases
from diffusion_jax.benchmarks.results import Table, device_name
from diffusion_jax.benchmarks.timing import measure, ratio
from diffusion_jax.compilation.costs import multiply_adds
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh

COLUMNS = ("program", "milliseconds", "ours is ... times as fast", "G multiply-adds")


def main(config: ConfigDict, name: str) -> None:
    """Measure, print and write the table.

    Raises:
      UserError: where the baselines are not installed.
    """
    options = flags.FLAGS
    makers = peers.baselines(config)
    config.optimizer.name = "adamw"
    config.model.update(dtype="float32", remat="none")
    if config.model.name == "rin":
        config.model.update(dropout=0.0, drop_path=0.0)
    experiment, mesh = build(config), make_mesh(1)
    size, (height, width, channels) = config.train.batch_size, experiment.sample_shape
    table = Table(f"{name}, batch {size}, float32, on {device_name()}, in turn.", COLUMNS)

    theirs, work = {}, {"ours": sum(multiply_adds(experiment, 1).values())}
    for baseline, make in makers.items():
        for form in ("eager", "compiled"):
            label, shape = f"{baseline}, {form}", (size, channels, height, width)
            theirs[label], work[label] = peers.programs(make(), shape, form == "compiled")

    def group(phase: str) -> dict:
        ours = phases.PHASES[phase](config, experiment, mesh)
        return {"ours": ours} | {label: made[phase] for label, made in theirs.items()}

    groups = ((phase, group(phase)) for phase in ("train", "sampler"))
    records: dict[str, dict[str, list[float]]] = {}
    for found in measure(groups, options.seconds):
        records.setdefault(found.group, {})[found.name] = found.seconds
        table.add(
            f"{found.group}, {found.name}",
            f"{found.milliseconds:.4g}",
            f"{ratio(found.seconds, found.first):.2f}",  # theirs over ours, which come first
            f"{work[found.name] / 1e9:.3g}",
        )
    if options.out:
        numbers = dict(device=device_name(), command=cli.command(), seconds=records)
        table.write(Path(options.out), numbers, f"    {cli.command()}")


if __name__ == "__main__":
    CONFIG = cli.define_config()
    arguments.number(
        "seconds", 20.0, "To go on with each program; five calls at least.", at_least=0
    )
    arguments.path("out", None, "Writes OUT.json and OUT.md.")
    cli.run(lambda: main(CONFIG.value, cli.config_name()), __doc__)
