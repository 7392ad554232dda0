"""RIN: Recurrent Interface Networks (arXiv 2212.11972) in Flax."""

from diffusion_jax.geometry import Images, Tokens, Video
from rin_jax.block import RINBlock
from rin_jax.model import RIN

__all__ = ["RIN", "Images", "RINBlock", "Tokens", "Video"]
