"""RIN: Recurrent Interface Networks (arXiv 2212.11972) in Flax."""

from rin_jax.interface import Images, Tokens, Video
from rin_jax.model import RIN

__all__ = ["RIN", "Images", "Tokens", "Video"]
