"""One RIN block (arXiv 2212.11972): latents read the interface, process, and write back.

    read      Z += MHA(LN(Z), X);  Z += MLP(LN(Z))
    process   Z += MHA(LN(Z));     Z += MLP(LN(Z))      K times
    write     X += MHA(LN(X), Z);  X += MLP(LN(X))

Z are M latents (B, M, D), X the N tokens of the interface (B, N, E). The read and the write cost
M N, the process M^2: attention over the data grows with N, not with N^2.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.stack import stack
from rin_jax.attention import FeedForward, MultiHeadAttention
from rin_jax.convolution import InterfaceConvolution
from rin_jax.layers import DropPath, Layer, Norm


class CrossAttention(Layer):
    """x += MHA(LN(x), source); x += MLP(LN(x)): both the read and the write.

    Keys and values see `source` unnormalised unless `normalize_source`.

    Attributes:
      width: total key width, min(latent, interface) in the reference.
      mlp_ratio: 0 leaves the MLP out.
      form: of `MultiHeadAttention`.
    """

    heads: int
    width: int
    mlp_ratio: int
    normalize_source: bool
    form: str

    @nn.compact
    def __call__(self, x: jax.Array, source: jax.Array) -> jax.Array:
        """Return x (B, L, D) after it has read `source` (B, S, E)."""
        norm = functools.partial(Norm, **self.dtypes)
        if self.normalize_source:
            source = norm(name="source_norm")(source)
        attention = MultiHeadAttention(
            self.heads, self.width, self.form, **self.dtypes, name="attention"
        )
        x = x + attention(norm(name="norm")(x), source)
        if self.mlp_ratio:
            x = x + FeedForward(self.mlp_ratio, **self.dtypes, name="mlp")(x)
        return x


class ProcessLayer(Layer):
    """z += MHA(LN(z)); z += MLP(LN(z)), the only layer with dropout and drop-path.

    Attributes:
      heads, mlp_ratio: of the attention and of the MLP.
      dropout, drop_path, attention_dropout: rates, when `train`; then the rng 'dropout' is needed.
      form: of `MultiHeadAttention`.
    """

    heads: int
    mlp_ratio: int
    dropout: float = 0.0
    drop_path: float = 0.0
    attention_dropout: float = 0.0
    train: bool = False
    form: str = "einsum"

    @nn.compact
    def __call__(self, z: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        """Return z (B, M, D) after the layer, and None: a layer of a scan."""
        options = {**self.dtypes, "train": self.train}
        attention = MultiHeadAttention(
            self.heads,
            z.shape[-1],
            self.form,
            self.attention_dropout,
            **options,
            name="attention",
        )
        mlp = FeedForward(self.mlp_ratio, self.dropout, **options, name="mlp")
        drop_path = DropPath(self.drop_path, self.train)
        normed = Norm(**self.dtypes, name="norm")(z)
        z = z + drop_path(attention(normed, normed))
        return z + drop_path(mlp(z)), None


class RINBlock(Layer):
    """Read, process K times, write (arXiv 2212.11972). A block with K = 0 only reads.

    Attributes:
      layers: K.
      latent_heads, read_write_heads: heads of the process and of the cross-attentions.
      latent_mlp_ratio: of the MLPs on the latents, at least 1.
      interface_mlp_ratio: of the MLP after the write; 0 leaves it out.
      normalize_source: LayerNorm on the keys and values of the cross-attentions.
      dropout, drop_path: rates of the process, when `train`; then the rng 'dropout' is needed.
      form: of `MultiHeadAttention`.
      unroll: writes the process layers out instead of scanning over them.
      condition_width: total key width of a separate read of `read_only`, before that of the
        interface; 0 reads both at once.
      attention_dropout: rate on the attention weights of the process, when `train`.
      convolution, convolution_dropout, convolved: size, dropout and count of the
        `InterfaceConvolution` after the write; size 0 leaves it out.
    """

    layers: int
    latent_heads: int
    latent_mlp_ratio: int
    read_write_heads: int
    interface_mlp_ratio: int
    normalize_source: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    train: bool = False
    form: str = "einsum"
    unroll: bool = False
    condition_width: int = 0
    attention_dropout: float = 0.0
    convolution: int = 0
    convolution_dropout: float = 0.0
    convolved: int = 0

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, jax.Array], read_only: jax.Array | None = None
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        """Return latents and interface after the block, and None: a layer of a scan.

        Args:
          carry: (latents (B, M, D), interface (B, N, E)), of `dtype`.
          read_only: (B, R, E) tokens that are read and never written, appended to the interface's;
            of any width where `condition_width` has them read separately.

        Returns:
          (latents, interface), like those given, and None.
        """
        latents, interface = carry
        cross = functools.partial(
            CrossAttention,
            self.read_write_heads,
            normalize_source=self.normalize_source,
            form=self.form,
            **self.dtypes,
        )
        width = min(latents.shape[-1], interface.shape[-1])
        read = functools.partial(cross, mlp_ratio=self.latent_mlp_ratio)
        source = interface
        if self.condition_width:
            latents = read(width=self.condition_width, name="read_condition")(latents, read_only)
        elif read_only is not None:
            source = jnp.concatenate([interface, read_only], axis=1)
        latents = read(width=width, name="read")(latents, source)
        self.sow("intermediates", "latents_read", latents)
        if self.layers:
            process = stack(ProcessLayer, self.layers, "none", self.unroll)(
                self.latent_heads,
                self.latent_mlp_ratio,
                self.dropout,
                self.drop_path,
                self.attention_dropout,
                self.train,
                self.form,
                **self.dtypes,
                name="process",
            )
            latents, _ = process(latents, None)
            write = cross(width=width, mlp_ratio=self.interface_mlp_ratio, name="write")
            interface = write(interface, latents)
        self.sow("intermediates", "latents", latents)
        self.sow("intermediates", "interface", interface)
        if self.layers and self.convolution:
            interface = InterfaceConvolution(
                self.convolution,
                self.convolved,
                self.convolution_dropout,
                self.train,
                **self.dtypes,
                name="convolution",
            )(interface)
        return (latents, interface), None
