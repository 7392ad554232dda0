"""Public PyTorch networks of a config's sizes, for launch.benchmark_peers."""

import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

PACKAGES = {"rin": "rin_pytorch", "diffussm": "diffusers"}


class Peer(NamedTuple):
    """A network to train and to sample from.

    Attributes:
      network: whose parameters are trained.
      loss: of x_0 (B, C, H, W), a scalar.
      denoise: (x, memory) -> (x, memory), one reverse step; `memory` is () at first.
    """

    network: Any
    loss: Callable
    denoise: Callable


def peers(config: ConfigDict) -> dict[str, Callable[[], Peer]]:
    """By name, what makes a peer of the config's network."""
    if config.model.name == "rin":
        return {"rin-pytorch": lambda: rin(config)}
    return {f"DiT/{patch}": lambda patch=patch: dit(config, patch) for patch in (1, 2)}


def rin(config: ConfigDict) -> Peer:
    """RIN of rin-pytorch, always self-conditioned."""
    import torch

    # Its trainer alone wants torchvision.
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        stub = types.ModuleType("torchvision")
        stub.transforms, stub.utils = types.SimpleNamespace(), types.SimpleNamespace()
        sys.modules["torchvision"] = stub
    from rin_pytorch import RIN, GaussianDiffusion

    model = config.model
    network = RIN(
        model.interface_dim,
        image_size=model.geometry.height,
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

    return Peer(diffusion, diffusion, denoise)


def dit(config: ConfigDict, patch_size: int) -> Peer:
    """DiT of diffusers, 16 heads, as wide and as deep as the config's DiffuSSM."""
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

    return Peer(network, loss, denoise)
