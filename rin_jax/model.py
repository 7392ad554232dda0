"""RIN: Recurrent Interface Network (arXiv 2212.11972), the denoiser.

One pass:

    interface X = LN(Dense(patches)) + positions     latents Z = learned rows, time, class
    Z = Z + LN0(Zprev + MLP(LN(Zprev)))              latent self-conditioning
    B times: read X into Z, process Z, write Z to X  rin_jax.block
    output = unpatchify(Dense(LN(X)))

LN0 is a LayerNorm whose scale starts at 0. Interface-side tokens are those of the time and of the
condition that the latents read beside X, where the config puts them there.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.fields import COUNT_OR_ZERO, Each, choice, count, number, rate, ruled
from diffusion_jax.geometry import Geometry
from diffusion_jax.parallel.axes import declare
from diffusion_jax.parallel.sharding import constrain
from diffusion_jax.stack import REMAT, stack
from rin_jax.attention import FORMS
from rin_jax.block import RINBlock
from rin_jax.checks import POSITIONS, SELF_CONDITIONING, TOKEN_PLACES, check_network
from rin_jax.conditioning import SelfConditioning, TimeEmbedding
from rin_jax.layers import Layer, Norm, glorot, zeros
from rin_jax.positions import position_table

# Attributes of the network that its blocks have too.
SHARED = ("latent_heads", "latent_mlp_ratio", "read_write_heads", "interface_mlp_ratio")
SHARED += ("normalize_source", "dropout", "drop_path", "attention_dropout", "unroll")
SHARED += ("condition_width", "convolution", "convolution_dropout", "dtype", "param_dtype")


class RIN(Layer):
    """The whole network; the defaults are NS's at 64 pixels (arXiv 2301.10972).

    Attributes:
      geometry: what the data are: `Images`, `Video` or `Tokens`.
      num_latents: number of rows of Z ("latent slots"), the time and class tokens among them.
      process_layers: K, the process layers of every block; 0 for a block that only reads.
      latent_dim: width of the latents Z.
      latent_heads: heads of the self-attention of the latents.
      latent_mlp_ratio: hidden width of the latents' MLPs, in multiples of `latent_dim`.
      interface_dim: width of the interface X.
      interface_mlp_ratio: the same of the interface's MLP, which 0 leaves out.
      read_write_heads: heads of the cross-attention between latents and interface.
      num_classes: width of the class one-hot or of the condition's token features; 0 for none.
      condition_tokens: rows that the condition takes: 1 for a label, S for `Condition.tokens`.
      time_on: where the time token goes, 'latents' or 'interface'.
      condition_on: where the condition's tokens go; or 'time': a label, or one token, has no token
        of its own and joins the hidden layer of the time's MLP.
      project_condition: a Dense brings the condition's features to the width of its place; without
        it they are used as they are, and must have that width.
      writable_condition: interface-side tokens are written to as well as read.
      decoupled_read: each block reads the interface-side tokens before the interface and by
        projections of their own, rather than both at once.
      condition_dim: width of the interface-side tokens, 0 for `interface_dim`; another one needs
        `decoupled_read`.
      latent_positions, interface_positions: embeddings of the positions: 'learned', 'sin_cos' or
        'sin_cos_plus_learned'.
      self_conditioning: what is carried: 'none', 'latent', 'interface' or 'latent+interface'.
      normalize_source: LayerNorm on the keys and values of cross-attention.
      time_scaling: multiplies gamma, and bounds the coordinates of sin-cos positions.
      dropout: rate at which hidden units of the process layers are dropped.
      drop_path: rate at which whole branches of the process layers are dropped.
      attention_dropout: rate at which attention weights of the process layers are dropped.
      convolution: side of the depthwise convolution over the interface at the end of each block
        that writes, 0 for none; see `InterfaceConvolution`.
      convolution_dropout: rate at which its hidden units are dropped.
      attention: how attention is computed: 'einsum', 'xla' or 'cudnn', see `MultiHeadAttention`.
      remat: 'none', 'dots' or 'full' rematerialisation of each block in the backward pass.
      unroll: writes all layers out instead of scanning over them: faster, and slower to compile.
      dtype: dtype of the matmuls.
      param_dtype: dtype of the parameters.

    Raises:
      UserError: on construction, for a size or a name that cannot work.
    """

    geometry: Geometry
    num_latents: int = count(128)
    process_layers: tuple[int, ...] = ruled(Each(COUNT_OR_ZERO, fewest=1), (6, 6, 6, 6))
    latent_dim: int = count(768)
    latent_heads: int = count(16)
    latent_mlp_ratio: int = count(4)
    interface_dim: int = count(512)
    interface_mlp_ratio: int = count(4, at_least=0)
    read_write_heads: int = count(16)
    num_classes: int = count(0, at_least=0)
    condition_tokens: int = count(1, in_config=False)
    time_on: str = choice(TOKEN_PLACES, "latents")
    condition_on: str = choice((*TOKEN_PLACES, "time"), "latents")
    project_condition: bool = True
    writable_condition: bool = False
    decoupled_read: bool = False
    condition_dim: int = count(0, at_least=0)
    latent_positions: str = choice(POSITIONS, "learned")
    interface_positions: str = choice(POSITIONS, "learned")
    self_conditioning: str = choice(SELF_CONDITIONING, "latent")
    normalize_source: bool = False
    time_scaling: float = number(1000.0, above=0, at_most=1e9)
    dropout: float = rate(0.0)
    drop_path: float = rate(0.0)
    attention_dropout: float = rate(0.0)
    convolution: int = count(0, at_least=0)
    convolution_dropout: float = rate(0.0)
    attention: str = choice(FORMS, "einsum")
    remat: str = choice(REMAT, "none")
    unroll: bool = False

    def __post_init__(self):
        check_network(self)
        super().__post_init__()

    @property
    def learned_latents(self) -> int:
        """Number of rows of Z that are neither time nor class."""
        rows = self.num_latents - (self.time_on == "latents")
        if self.num_classes and self.condition_on == "latents":
            rows -= self.condition_tokens
        return rows

    @property
    def condition_width(self) -> int:
        """Total key width of the separate read of interface-side tokens; 0 where there is none."""
        return min(self.latent_dim, self.width_on("interface")) if self.decoupled_read else 0

    def width_on(self, place: str) -> int:
        """Width of the tokens of time and class on 'latents' or on 'interface'."""
        return self.latent_dim if place == "latents" else self.condition_dim or self.interface_dim

    def initial_carry(self, batch_size: int) -> dict[str, jax.Array]:
        """Return the zeros of a first pass, {'latents': (B, m, d), 'interface': (B, N, d')}."""
        shapes = {
            "latents": (batch_size, self.num_latents, self.latent_dim),
            "interface": (batch_size, self.geometry.data_tokens, self.interface_dim),
        }
        return {name: jnp.zeros(shapes[name], self.dtype) for name in self._carried}

    @property
    def _carried(self) -> list[str]:
        carried = {"latent": "latents", "interface": "interface"}
        return [carried[part] for part in self.self_conditioning.split("+") if part in carried]

    @nn.compact
    def __call__(
        self,
        x_t: jax.Array,
        noise: NoiseLevel,
        condition: Condition,
        carry: dict[str, jax.Array],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict eps, x0 or v, as the objective has it, from noisy data.

        Args:
          x_t: (B, *geometry.sample_shape) noisy data.
          noise: its gamma, (B,).
          condition: labels or tokens if `num_classes`; frames if the geometry has them.
          carry: `initial_carry` or the carry of the previous pass.
          train: dropout on; needs the rng 'dropout' where a rate is above 0.

        Returns:
          The network's output, shaped like `x_t`, and the next carry.
        """
        tokens = self._tokens(noise, condition)
        interface = self._interface(x_t, condition, carry)
        latents = self._latents(x_t.shape[0], tokens["latents"], carry)
        read_only = jnp.concatenate(tokens["interface"], 1) if tokens["interface"] else None
        if self.writable_condition and read_only is not None:
            interface, read_only = jnp.concatenate([interface, read_only], axis=1), None
        self.sow("intermediates", "initial_interface", interface)
        self.sow("intermediates", "initial_latents", latents)

        # Blocks do not share weights. Those of equal K have equal shapes, and neighbours of equal
        # K are one scan.
        runs = [(layers, len(list(run))) for layers, run in itertools.groupby(self.process_layers)]
        for i, (layers, blocks_alike) in enumerate(runs):
            blocks = stack(RINBlock, blocks_alike, self.remat, self.unroll)(
                layers,
                **{name: getattr(self, name) for name in SHARED},
                train=train,
                form=self.attention,
                convolved=self.geometry.data_tokens,
                name=f"blocks_{i}",
            )
            (latents, interface), _ = blocks((latents, interface), read_only)
        self.sow("intermediates", "latents", latents)
        self.sow("intermediates", "interface", interface)

        # Conditioning frames, and what was written beside the data, are not read out.
        noisy = Norm(**self.dtypes, name="readout_norm")(interface[:, : self.geometry.num_tokens])
        patches = self.dense("readout", self.geometry.patch_dim, ("embed", "patch"), noisy)
        final = {"latents": latents, "interface": interface[:, : self.geometry.data_tokens]}
        return Prediction(
            self.geometry.from_patches(patches), {name: final[name] for name in self._carried}
        )

    def _tokens(self, noise: NoiseLevel, condition: Condition) -> dict[str, list[jax.Array]]:
        """Time and condition as tokens (B, S, width), by the place where they go."""
        tokens = {"latents": [], "interface": []}
        # A label is a one-hot; one that was dropped, of zeros, leaves the bias of the projection.
        place, features = self.condition_on if self.num_classes else "", None
        if place and condition.labels is not None:
            one_hot = jax.nn.one_hot(condition.labels, self.num_classes, dtype=self.dtype)
            features = rearrange(one_hot, "b classes -> b 1 classes")
        elif place:
            features = condition.need("tokens").astype(self.dtype)
        width = (
            self.width_on(self.time_on) // 4 * 4
        )  # the hidden width is four times the sinusoid's
        embed = TimeEmbedding(width, self.time_scaling, **self.dtypes, name="time")
        beside = None if features is None or place != "time" else features[:, 0]
        time = embed(noise.gamma, beside)
        tokens[self.time_on].append(rearrange(time, "b d -> b 1 d"))
        if place in tokens and features is not None:
            if self.project_condition:
                width = self.width_on(place)
                features = self.dense("condition", width, ("classes", "embed"), features)
            tokens[place].append(features)
        return tokens

    def _interface(self, x_t: jax.Array, condition: Condition, carry: dict) -> jax.Array:
        """LN(patches) + positions (+ the carried interface): (B, data_tokens, d')."""
        # The patch "convolution", whose stride is its side: a matmul of every patch.
        patch = [("patch", size) for size in self.geometry.kernel_shape]
        kernel, bias = self.affine("patch", glorot, *patch, ("embed", self.interface_dim))
        patches = self.geometry.to_patches(x_t.astype(self.dtype))
        if self.geometry.data_tokens > self.geometry.num_tokens:
            given = self.geometry.to_patches(condition.need("frames").astype(self.dtype))
            patches = jnp.concatenate([patches, given], axis=1)
        kernel = rearrange(kernel, "... d -> (...) d")
        interface = jnp.einsum("bnp,pd->bnd", constrain(patches), kernel) + bias[None, None]
        interface = Norm(**self.dtypes, name="patch_norm")(interface)
        interface = interface + self._positions("interface", self.geometry.data_grid)
        if "interface" in self._carried:
            ratio = self.interface_mlp_ratio
            remember = SelfConditioning(ratio, **self.dtypes, name="interface_carry")
            interface = interface + remember(carry["interface"])
        return interface

    def _latents(self, batch_size: int, tokens: list[jax.Array], carry: dict) -> jax.Array:
        """Learned rows, then time, then class (+ the carried latents): (B, m, d)."""
        rows = self._positions("latent", (self.learned_latents,))
        rows = jnp.broadcast_to(rows, (batch_size, *rows.shape[1:]))
        latents = constrain(jnp.concatenate([rows, *tokens], axis=1))
        if "latents" in self._carried:
            remember = SelfConditioning(self.latent_mlp_ratio, **self.dtypes, name="latent_carry")
            latents = latents + remember(carry["latents"])
        return latents

    def _positions(self, stream: str, grid: tuple[int, ...]) -> jax.Array:
        """Positions of a stream, (1, prod(grid), dim): learned, sin-cos, or the sum of both."""
        name = f"{stream}_positions"
        kind, shape = getattr(self, name), (math.prod(grid), getattr(self, f"{stream}_dim"))
        table = jnp.zeros(shape, self.dtype)
        if kind != "learned":
            codes = position_table(grid, shape[1], self.time_scaling)
            table = table + jnp.asarray(codes, self.dtype)
        if kind != "sin_cos":
            alone = nn.initializers.truncated_normal(0.02)
            init = declare(alone if kind == "learned" else zeros, "positions", "embed")
            table = table + self.param(name, init, shape, self.param_dtype).astype(self.dtype)
        return table[None]
