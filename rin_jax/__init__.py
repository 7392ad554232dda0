"""RIN: Recurrent Interface Networks (arXiv 2212.11972) in Flax."""

from diffusion_jax.experiment.networks import Network
from diffusion_jax.geometry import Images, Tokens, Video
from rin_jax.block import RINBlock
from rin_jax.model import RIN

__all__ = ["RIN", "Images", "RINBlock", "Tokens", "Video"]

NETWORK = Network(
    RIN,
    figures="rin_jax.figures:Figures",
    official="rin_jax.official",
    computed_by=("attention", "remat", "unroll"),
    regularised_by=("dropout", "drop_path", "attention_dropout", "convolution_dropout"),
)
