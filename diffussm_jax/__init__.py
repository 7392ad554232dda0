"""DiffuSSM: diffusion models without attention (arXiv 2311.18257)."""

from diffussm_jax.block import DiffuSSMBlock
from diffussm_jax.ssm import BidirectionalSSM

__all__ = ["BidirectionalSSM", "DiffuSSMBlock"]
