"""Times RIN beside a public PyTorch one of the same sizes, in turn, on the same machine.

    pip install -e '.[peers]'
    python -m launch.benchmark_peers --batch_size=8 --out=docs/benchmarks/rin

The peer is RIN of the package rin-pytorch at the sizes of configs/rin/cifar10.py, eager and by
torch.compile, float32. What one of them has not is off in the other: there attention between
patches, here dropout and drop path. A train step is the loss with its gradient and the pass that
makes the carried latents, AdamW and EMA; a reverse step is one pass of the network and DDPM's
arithmetic. Sizes differ where the peer offers no choice: the multiply-adds of one forward pass of
one example stand beside the times.
"""

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from configs.rin import cifar10
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.sharding import make_mesh
from launch import cli
from launch.benchmark import device_name, write_table
from launch.benchmark_phases import REVERSE_STEPS, sampler, train
from launch.build import build
from launch.describe import multiply_adds
from launch.timing import in_turn, ratios, spread


def make_peer() -> tuple[Any, Callable, Callable]:
    """(module, loss, denoise): loss(images) is a scalar, denoise(x, memory) a reverse step."""
    import torch

    # Its trainer alone wants torchvision.
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        stub = types.ModuleType("torchvision")
        stub.transforms, stub.utils = types.SimpleNamespace(), types.SimpleNamespace()
        sys.modules["torchvision"] = stub
    from rin_pytorch import RIN, GaussianDiffusion

    config = cifar10.get_config().model
    network = RIN(
        config.interface_dim,
        image_size=config.geometry.height,
        patch_size=config.geometry.patch_size,
        depth=len(config.process_layers),
        latent_self_attn_depth=config.process_layers[0],
        dim_latent=config.latent_dim,
        num_latents=config.num_latents - 1,
        latent_token_time_cond=True,
        patches_self_attn=False,
        heads=config.latent_heads,
        dim_head=config.latent_dim // config.latent_heads,
    )
    diffusion = GaussianDiffusion(network, objective="eps", train_prob_self_cond=1.0)

    def denoise(x, memory):
        time = torch.full((len(x),), 0.5)
        with torch.no_grad():
            x0, latents = network(x, time, *memory, return_latents=True)
            return (x + x0 + torch.randn_like(x)) / 3**0.5, (x0.clamp(-1, 1), latents)

    return diffusion, diffusion, denoise


SHAPE = (3, 32, 32)


def peer_calls(size: int, compiled: bool) -> tuple[dict[str, Callable], float]:
    """({'train', 'sampler'}: calls like those of launch.benchmark_phases, G multiply-adds)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    network, loss, denoise = make_peer()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    params = [p.detach() for p in network.parameters()]
    ema = [p.clone() for p in params]
    images = torch.rand(size, *SHAPE)
    with FlopCounterMode(display=False) as counter:
        denoise(torch.zeros(1, *SHAPE), ())
    if compiled:
        loss, denoise = torch.compile(loss), torch.compile(denoise)

    def step() -> None:
        optimizer.zero_grad()
        loss(images).backward()
        optimizer.step()
        torch._foreach_lerp_(ema, params, 1e-4)

    def reverse() -> None:
        x, memory = torch.randn(size, *SHAPE), ()
        for _ in range(REVERSE_STEPS):
            x, memory = denoise(x, memory)
        np.asarray(x)

    return {"train": step, "sampler": reverse}, counter.get_total_flops() / 2e9


def main(options: flags.FlagValues) -> None:
    """Measures, prints and writes the table.

    Raises:
      UserError: where the peers are not installed.
    """
    check_at_least("--batch_size", options.batch_size, 1)
    if not all(importlib.util.find_spec(name) for name in ("torch", "rin_pytorch")):
        raise UserError("rin-pytorch or torch is not installed: pip install -e '.[peers]'")
    size, config = options.batch_size, cifar10.get_config()
    config.train.batch_size = size
    config.model.update(dropout=0.0, drop_path=0.0)
    config.optimizer.name = "adamw"
    experiment, mesh = build(config), make_mesh(1)
    head = f"RIN of CIFAR-10's sizes, batch {size}, float32, on {device_name()}, in turn."
    lines = [head, "", "| program | milliseconds | ours is ... times as fast | G multiply-adds |"]
    lines.append("|---" * 4 + "|")
    cli.say("\n".join(lines))
    theirs = {name: peer_calls(size, name == "compiled") for name in ("eager", "compiled")}
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
                f"{work if name == 'ours' else theirs[name][1]:.2f} |"
            )
            cli.say(lines[-1])
    if options.out:
        content = dict(device=device_name(), command=cli.command(), seconds=records)
        text = "\n".join(lines) + f"\n\n    {cli.command()}\n"
        write_table(Path(options.out), text, json.dumps(content, indent=1))


if __name__ == "__main__":
    flags.DEFINE_integer("batch_size", 8, "Examples in a batch.")
    flags.DEFINE_float("seconds", 20.0, "To go on with each program; five calls at least.")
    flags.DEFINE_string("out", None, "Writes OUT.json and OUT.md.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
