"""Baselines for launch.benchmark_peers: public PyTorch networks of a config's sizes."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.benchmarks.phases import REVERSE_STEPS
from diffusion_jax.benchmarks.timing import Runnable
from diffusion_jax.errors import UserError

PACKAGES = {"rin": "rin_pytorch", "diffussm": "diffusers"}


class Baseline(NamedTuple):
    """A network to train and to sample from.

    Attributes:
      network: the module whose parameters are trained.
      loss: x_0 (B, C, H, W) -> scalar.
      denoise: (x, memory) -> (x, memory), one reverse step; `memory` is () at first.
    """

    network: Any
    loss: Callable
    denoise: Callable


def baselines(config: ConfigDict) -> dict[str, Callable[[], Baseline]]:
    """Return, by name, functions that make the baselines of the config's network.

    Raises:
      UserError: if their packages are not installed.
    """
    wanted = ("torch", PACKAGES[config.model.name])
    if not all(map(importlib.util.find_spec, wanted)):
        raise UserError(f"{' or '.join(wanted)} is not installed: pip install -e '.[peers]'")
    if config.model.name == "rin":
        return {"rin-pytorch": functools.partial(rin, config)}
    return {f"DiT/{patch}": functools.partial(dit, config, patch) for patch in (1, 2)}


def programs(
    baseline: Baseline, shape: tuple[int, ...], compiled: bool
) -> tuple[dict[str, Runnable], float]:
    """Return a baseline's train step and sampler, which do what those of `phases` do.

    Args:
      shape: of a batch, (B, C, H, W).
      compiled: by `torch.compile`, instead of eager.

    Returns:
      ({'train', 'sampler'}: program, multiply-adds of one forward pass of one example).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    network, loss, denoise = baseline
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

    return {"train": Runnable(step), "sampler": Runnable(reverse)}, counter.get_total_flops() / 2


def rin(config: ConfigDict) -> Baseline:
    """Return the RIN of rin-pytorch, which self-conditions every example."""
    import torch
    from rin_pytorch import RIN, GaussianDiffusion

    model = config.model
    network = RIN(
        model.interface_dim,
        image_size=model.geometry.height,
        channels=model.geometry.channels,
        patch_size=model.geometry.patch_size,
        depth=len(model.process_layers),
        latent_self_attn_depth=model.process_layers[0],
        dim_latent=model.latent_dim,
        num_latents=model.num_latents - 1,
        latent_token_time_cond=True,
        patches_self_attn=False,
        heads=model.latent_heads,
        dim_head=model.latent_dim // model.latent_heads,
    )
    diffusion = GaussianDiffusion(network, objective="eps", train_prob_self_cond=1.0)

    def denoise(x, memory):
        time = torch.full((len(x),), 0.5)
        x0, latents = network(x, time, *memory, return_latents=True)
        return (x + x0 + torch.randn_like(x)) / 3**0.5, (x0.clamp(-1, 1), latents)

    return Baseline(diffusion, diffusion, denoise)


def dit(config: ConfigDict, patch_size: int) -> Baseline:
    """Return the DiT of diffusers, 16 heads, as wide and as deep as the config's DiffuSSM."""
    import torch
    from diffusers import DiTTransformer2DModel

    model, geometry = config.model, config.model.geometry
    network = DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=model.dim // 16,
        in_channels=geometry.channels,
        out_channels=2 * geometry.channels,
        num_layers=model.layers,
        sample_size=geometry.height,
        patch_size=patch_size,
        num_embeds_ada_norm=model.num_classes,
    )

    def predict(x):
        zeros = torch.zeros(len(x), dtype=torch.long)
        return network(x, timestep=zeros + 500, class_labels=zeros).sample

    def loss(x):
        eps = torch.randn_like(x)
        return torch.nn.functional.mse_loss(predict((x + eps) / 2**0.5)[:, : x.shape[1]], eps)

    def denoise(x, memory):
        return (x + predict(x)[:, : x.shape[1]] + torch.randn_like(x)) / 3**0.5, memory

    return Baseline(network, loss, denoise)
