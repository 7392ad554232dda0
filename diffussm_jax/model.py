"""DiffuSSM (arXiv 2311.18257), the denoiser: raster tokens through attention-free blocks.

One pass:

    x = W_in [M consecutive tokens]                   (B, J, D), J = L / M
    x = block(x, time + class)                        29 times, diffussm_jax.block
    output = W_out modulate(LayerNorm(x))             M tokens of C, or 2C, channels each

Time and class enter through adaLN-Zero alone, and the last layer starts at zero, as in DiT (arXiv
2212.09748): a new network is the identity on its stream and puts out zeros.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.errors import UserError
from diffusion_jax.fields import check, choice, count, ruled
from diffusion_jax.geometry import Geometry
from diffusion_jax.normalisation import normalise
from diffusion_jax.parallel.axes import dense_inits
from diffusion_jax.parallel.sharding import constrain
from diffusion_jax.stack import REMAT, stack
from diffussm_jax.block import READINGS, DiffuSSMBlock, glorot, modulation, zeros
from diffussm_jax.convolution import FORMS
from diffussm_jax.embeddings import ConditionEmbedding, position_table
from diffussm_jax.s4d import STARTS, even
from diffussm_jax.ssm import BidirectionalSSM

POSITIONS = ("none", "sin_cos")


class DiffuSSM(nn.Module):
    """The whole network; the defaults are size XL.

    Attributes:
      geometry: what the data are: `Images`, read in raster order, `Tokens`, a sequence, or `Video`.
      dim: D, the width of the stream between blocks.
      layers: number of blocks.
      expansion: M, tokens to a position of the stream between blocks; it must divide their number.
      state_size: N, complex states of each channel in each direction.
      start: initialisation of the state matrices, 'lin', 'inv' or 'legs'.
      form: how the long convolution is computed; see `BidirectionalSSM`.
      reading: of the published weight shapes: 'flops' or 'parameters'; see `DiffuSSMBlock`.
      num_classes: 0 for none.
      positions: 'none', as the paper draws it, or 'sin_cos': DiT's, of each position's first token.
      learned_variance: the output has variance channels after the data's.
      remat: 'none', 'dots' or 'full' rematerialisation of each block in the backward pass.
      unroll: writes all blocks out instead of scanning over them: faster, and slower to compile.
      dtype: of the blocks' matmuls; parameters, norms, the SSM and the residual stream are float32.

    Raises:
      UserError: on construction, for a size or a name that cannot work.
    """

    geometry: Geometry
    dim: int = count(1152)
    layers: int = count(29)
    expansion: int = count(2)
    state_size: int = ruled(even, 64)
    start: str = choice(STARTS, "lin")
    form: str = choice(FORMS, "auto")
    reading: str = choice(READINGS, "flops")
    num_classes: int = count(0, at_least=0)
    positions: str = choice(POSITIONS, "none")
    learned_variance: bool = True
    remat: str = choice(REMAT, "none")
    unroll: bool = False
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check(self)
        _check_fit(self)
        super().__post_init__()

    def timed_ssm(self) -> tuple[nn.Module, tuple[int, ...]]:
        """Return the state space layer of a block, and the shape (L, D) of its input."""
        layer = BidirectionalSSM(self.state_size, self.start, self.form)
        return layer, (self.geometry.num_tokens, self.dim)

    phases: ClassVar = {"ssm": timed_ssm}  # layers that launch.benchmark times by themselves

    def initial_carry(self, batch_size: int) -> tuple[()]:
        """Return (): this network remembers nothing from one pass to the next."""
        return ()

    @nn.compact
    def __call__(
        self,
        x_t: jax.Array,
        noise: NoiseLevel,
        condition: Condition,
        carry: tuple[()],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict eps, x0 or v, as the objective has it, from noisy data.

        Args:
          x_t: (B, *geometry.sample_shape) noisy data.
          noise: its timestep, (B,) int32.
          condition: labels if `num_classes`.
          carry: ().
          train: changes nothing; the network has no dropout.

        Returns:
          (B, ..., C) or, with variance channels, (B, ..., 2C) output, and ().

        Raises:
          UserError: without a timestep.
        """
        if noise.timestep is None:
            raise UserError(
                "DiffuSSM needs timesteps, and this schedule has none: use a discrete one, as the "
                "schedule 'linear_betas'"
            )
        tokens = self.geometry.to_patches(x_t.astype(self.dtype))
        tokens = rearrange(tokens, "b (j m) p -> b j (m p)", m=self.expansion)
        inits = dense_inits(glorot, "patch", "embed")
        x = nn.Dense(self.dim, **inits, dtype=self.dtype, name="in")(tokens)
        x = x.astype(x_t.dtype)  # sums over the blocks, and the output, are not rounded to bfloat16
        if self.positions == "sin_cos":
            table = position_table(self.geometry.grid, self.dim)[:: self.expansion]
            x = x + jnp.asarray(table, x.dtype)[None]
        embedding = ConditionEmbedding(self.dim, self.num_classes, name="condition")(
            noise.timestep, condition
        )

        blocks = DiffuSSMBlock(
            self.expansion,
            self.state_size,
            self.start,
            self.form,
            self.reading,
            self.dtype,
            name="blocks",
        )
        run = stack(lambda block, x, c: (block(x, c), None), self.layers, self.remat, self.unroll)
        x, _ = run(blocks, x, embedding)

        shift, scale = modulation(embedding, 2, self.dim, x.dtype)
        x = normalise(constrain(x, None)) * (1 + scale) + shift
        parts = 2 if self.learned_variance else 1
        width = parts * self.expansion * self.geometry.patch_dim
        inits = dense_inits(zeros, "embed", "patch")
        out = nn.Dense(width, **inits, dtype=x.dtype, name="out")(x)
        patches = rearrange(out, "b j (m p) -> b (j m) p", m=self.expansion)
        return Prediction(self.geometry.from_patches(patches), carry)


def _check_fit(model: DiffuSSM) -> None:
    """Raise `UserError` for sizes that do not go together."""
    tokens, m = model.geometry.num_tokens, model.expansion
    if tokens % m or 2 * model.dim % m:
        both = [n for n in range(1, tokens + 1) if tokens % n == 0 and 2 * model.dim % n == 0]
        raise UserError(
            f"expansion is {m}: it must divide the {tokens} tokens and 2 dim = {2 * model.dim}; "
            f"choose one of {both}"
        )
    axes = len(model.geometry.grid)
    if model.positions == "sin_cos" and model.dim % (2 * axes):
        raise UserError(f"dim is {model.dim}: sin-cos positions need a multiple of {2 * axes}")
    if model.geometry.data_tokens != tokens:
        raise UserError("DiffuSSM takes no conditioning frames: set conditioning_frames=0")
