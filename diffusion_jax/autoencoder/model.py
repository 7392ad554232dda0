"""Stable Diffusion's autoencoder (arXiv 2112.10752), as diffusers' AutoencoderKL computes it.

Those of SDXL, SD3 and FLUX differ from it in their settings alone. Images shrink to half their side
between levels of residual blocks: with four levels 8-fold.
"""

from typing import Any

import jax
import jax.numpy as jnp
from einops import repeat
from flax import linen as nn

from diffusion_jax.autoencoder.layers import Middle, ResidualBlock, group_norm
from diffusion_jax.autoencoder.moments import Moments, unpack
from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.errors import UserError
from diffusion_jax.fields import COUNT, Each, check, count, ruled


class _Half(nn.Module):
    """The layers that encoder and decoder share; their compact methods call these."""

    block_channels: tuple[int, ...]
    layers_per_block: int
    out_channels: int
    groups: int
    mid_block_add_attention: bool
    dtype: jnp.dtype

    def _conv(self, x: jax.Array, channels: int, name: str, **how: Any) -> jax.Array:
        return nn.Conv(channels, (3, 3), dtype=self.dtype, name=name, **how)(x)

    def _blocks(self, x: jax.Array, level: int, channels: int, count: int) -> jax.Array:
        for i in range(count):
            name = f"level_{level}_block_{i}"
            x = ResidualBlock(channels, self.groups, self.dtype, name=name)(x)
        return x

    def _middle(self, x: jax.Array) -> jax.Array:
        return Middle(self.groups, self.mid_block_add_attention, self.dtype, name="middle")(x)

    def _end(self, x: jax.Array) -> jax.Array:
        return self._conv(nn.silu(group_norm(x, self.groups, "norm")), self.out_channels, "out")


class Encoder(_Half):
    """(B, H, W, image_channels) -> (B, H / f, W / f, out_channels)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self._conv(x, self.block_channels[0], "in")
        for level, channels in enumerate(self.block_channels):
            if level > 0:  # halve the sides; the original pads below and to the right alone
                how = dict(strides=2, padding=((0, 1), (0, 1)))
                x = self._conv(x, x.shape[-1], f"level_{level - 1}_down", **how)
            x = self._blocks(x, level, channels, self.layers_per_block)
        return self._end(self._middle(x))


class Decoder(_Half):
    """(B, h, w, latent_channels) -> (B, f h, f w, out_channels)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self._middle(self._conv(x, self.block_channels[-1], "in"))
        for level, channels in enumerate(reversed(self.block_channels)):
            if level > 0:  # double the sides, by nearest neighbours
                x = repeat(x, "b h w c -> b (h 2) (w 2) c")
                x = self._conv(x, x.shape[-1], f"level_{level - 1}_up")
            x = self._blocks(x, level, channels, self.layers_per_block + 1)
        return self._end(x)


class Autoencoder(nn.Module):
    """Images to moments of latents, and latents to images: `method="encode"` or `"decode"`.

    The defaults are Stable Diffusion's f8: 83,653,863 parameters. Examples of a batch have nothing
    to do with each other, so a batch split over devices stays split.

    Attributes:
      block_channels: of each level, from the highest resolution; f = 2^(levels - 1).
      layers_per_block: residual blocks of an encoder's level; a decoder's has one more.
      latent_channels: of z.
      image_channels: of images.
      groups: of the GroupNorms; must divide every level's channels.
      mid_block_add_attention: whether there is attention at the lowest resolution.
      use_quant_conv, use_post_quant_conv: whether a 1 x 1 convolution ends the encoder, and whether
        one begins the decoder.
      scaling: of the latents that a diffusion sees, which `encode` and `decode` do not apply.
      dtype: of convolutions and matmuls; parameters and norms are float32.

    Raises:
      UserError: on construction, for sizes that cannot work.
    """

    block_channels: tuple[int, ...] = ruled(Each(COUNT, fewest=1), (128, 256, 512, 512))
    layers_per_block: int = count(2)
    latent_channels: int = count(4)
    image_channels: int = count(3)
    groups: int = count(32)
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling: Scaling = STABLE_DIFFUSION
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check(self)
        if any(channels % self.groups for channels in self.block_channels):
            raise UserError(
                f"block_channels is {self.block_channels}: each must be a multiple of groups = "
                f"{self.groups}"
            )
        super().__post_init__()

    @property
    def factor(self) -> int:
        """Return f, the side of an image divided by the side of its latents."""
        return 2 ** (len(self.block_channels) - 1)

    def setup(self) -> None:
        sizes = (self.block_channels, self.layers_per_block)
        compute = (self.groups, self.mid_block_add_attention, self.dtype)
        self.encoder = Encoder(*sizes, 2 * self.latent_channels, *compute)
        if self.use_quant_conv:
            self.quant_conv = nn.Conv(2 * self.latent_channels, (1, 1), dtype=self.dtype)
        if self.use_post_quant_conv:
            self.post_quant_conv = nn.Conv(self.latent_channels, (1, 1), dtype=self.dtype)
        self.decoder = Decoder(*sizes, self.image_channels, *compute)

    def encode(self, images: jax.Array) -> Moments:
        """Return the posterior of z, (B, H / f, W / f, latent_channels), float32.

        Args:
          images: (B, H, W, image_channels) floats in [-1, 1].

        Raises:
          UserError: for integers, or sides that are no multiples of f.
        """
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(f"images are {images.dtype}: give floats in [-1, 1]")
        if any(side % self.factor for side in images.shape[1:3]):
            raise UserError(
                f"images are {images.shape[1]} x {images.shape[2]}: both sides must be multiples "
                f"of {self.factor}"
            )
        moments = self.encoder(images)
        return unpack(self.quant_conv(moments) if self.use_quant_conv else moments)

    def decode(self, z: jax.Array) -> jax.Array:
        """Return images (B, f h, f w, image_channels) in about [-1, 1], not clipped, float32.

        Args:
          z: (B, h, w, latent_channels), as `Moments.sample` or `from_latents` gives it.
        """
        z = self.post_quant_conv(z) if self.use_post_quant_conv else z
        return self.decoder(z).astype(jnp.float32)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return reconstructions, float32 (B, H, W, image_channels), from the means."""
        return self.decode(self.encode(images).mean)
