"""Times our networks beside public PyTorch ones of the same sizes, in turn, on the same machine.

    pip install -e '.[peers]'
    python -m launch.benchmark_peers --config=configs/rin/cifar10.py --config.train.batch_size=8
    python -m launch.benchmark_peers --config=configs/diffussm/imagenet256.py \
      --config.train.batch_size=2 --config.model.layers=4 --out=docs/benchmarks/diffussm_peers

RIN stands beside that of the package rin-pytorch, DiffuSSM beside DiT of diffusers, as wide and as
deep, with patches of 1 and of 2; eager and by torch.compile, float32. What one of them has not is
off in the other: attention between patches there, dropout, drop path and remat here. A train step
is the loss with its gradient, the pass that makes carried latents, AdamW and EMA; a reverse step is
one pass of the network and DDPM's arithmetic. Sizes differ where a peer offers no choice: the
multiply-adds of one forward pass of one example stand beside the times.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.peers import PACKAGES, Peer, peers
from diffusion_jax.benchmarks.phases import REVERSE_STEPS, sampler, train
from diffusion_jax.benchmarks.timing import in_turn, ratios, spread
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh
from launch.benchmark import device_name, write_table
from launch.common import arguments, cli
from launch.describe import multiply_adds


def peer_calls(
    peer: Peer, shape: tuple[int, ...], compiled: bool
) -> tuple[dict[str, Callable], float]:
    """({'train', 'sampler'}: calls like those of diffusion_jax.benchmarks.phases, G multiply-adds).

    Args:
      shape: of a batch, (B, C, H, W).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    network, loss, denoise = peer
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    params = [p.detach() for p in network.parameters()]
    ema = [p.clone() for p in params]
    x_0 = torch.rand(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoise(x_0[:1], ())
    if compiled:
        loss, denoise = torch.compile(loss), torch.compile(denoise)

    def step() -> None:
        optimizer.zero_grad()
        loss(x_0).backward()
        optimizer.step()
        torch._foreach_lerp_(ema, params, 1e-4)

    @torch.no_grad()
    def reverse() -> None:
        x, memory = torch.randn(shape), ()
        for _ in range(REVERSE_STEPS):
            x, memory = denoise(x, memory)
        np.asarray(x)

    return {"train": step, "sampler": reverse}, counter.get_total_flops() / 2e9


def main(config: ConfigDict, name: str, options: flags.FlagValues) -> None:
    """Measures, prints and writes the table.

    Raises:
      UserError: where the peers are not installed.
    """
    wanted = ("torch", PACKAGES[config.model.name])
    if not all(map(importlib.util.find_spec, wanted)):
        raise UserError(f"{' or '.join(wanted)} is not installed: pip install -e '.[peers]'")
    config.optimizer.name = "adamw"
    config.model.update(dtype="float32", remat="none")
    if config.model.name == "rin":
        config.model.update(dropout=0.0, drop_path=0.0)
    experiment, mesh = build(config), make_mesh(1)
    size, (height, width, channels) = config.train.batch_size, experiment.sample_shape
    head = f"{name}, batch {size}, float32, on {device_name()}, in turn."
    lines = [head, "", "| program | milliseconds | ours is ... times as fast | G multiply-adds |"]
    lines.append("|---" * 4 + "|")
    say(*lines)
    theirs = {
        f"{peer}, {'compiled' if compiled else 'eager'}": peer_calls(
            make(), (size, channels, height, width), compiled
        )
        for peer, make in peers(config).items()
        for compiled in (False, True)
    }
    work = sum(multiply_adds(experiment, 1).values()) / 1e9
    records = {}
    for phase, make in (("train", train), ("sampler", sampler)):
        calls = {"ours": make(config, experiment, mesh).call}
        calls |= {name: made[phase] for name, (made, _) in theirs.items()}
        taken = records[phase] = in_turn(calls, options.seconds)
        for name, times in taken.items():
            ms = spread([1e3 * time for time in times])
            speed = ratios({"ours": taken["ours"], name: times}, name)["ours"]
            lines.append(
                f"| {phase}, {name} | {ms.median:.4g} ({ms.lowest:.4g} to {ms.highest:.4g}) | "
                f"{speed.median:.2f} ({speed.lowest:.2f} to {speed.highest:.2f}) | "
                f"{work if name == 'ours' else theirs[name][1]:.3g} |"
            )
            say(lines[-1])
    if options.out:
        content = dict(device=device_name(), command=cli.command(), seconds=records)
        text = "\n".join(lines) + f"\n\n    {cli.command()}\n"
        write_table(Path(options.out), text, json.dumps(content, indent=1))


if __name__ == "__main__":
    CONFIG = cli.define_config()
    flags.mark_flag_as_required("config")
    arguments.number(
        "seconds", 20.0, "To go on with each program; five calls at least.", at_least=0
    )
    arguments.path("out", None, "Writes OUT.json and OUT.md.")
    cli.run(lambda: main(CONFIG.value, cli.config_name(), flags.FLAGS), __doc__)
