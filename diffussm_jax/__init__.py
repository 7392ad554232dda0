"""DiffuSSM: diffusion models without attention (arXiv 2311.18257)."""

from diffusion_jax.experiment.networks import Network
from diffusion_jax.geometry import Images, Tokens, Video
from diffussm_jax.block import DiffuSSMBlock
from diffussm_jax.model import DiffuSSM
from diffussm_jax.ssm import BidirectionalSSM

__all__ = ["BidirectionalSSM", "DiffuSSM", "DiffuSSMBlock", "Images", "Tokens", "Video"]

NETWORK = Network(
    DiffuSSM,
    figures="diffussm_jax.figures:Figures",
    needs_timesteps=True,
    computed_by=("form", "remat", "unroll"),
)
