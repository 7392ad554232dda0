"""What turns data into tokens and back: images, video, token sets and sequences.

A geometry is a frozen description without parameters; the network owns the patch kernel.
Every geometry has

    sample_shape    shape of x_t, less the batch
    grid            positions of the noisy tokens, row-major
    data_grid       the same with the tokens of conditioning frames, which come last
    kernel_shape    shape of the patch kernel less its output width (fans as in a convolution)
    to_patches      data -> (B, N, P), P = prod(kernel_shape)
    from_patches    (B, num_tokens, P) -> data shaped like x_t, or with 2C channels from 2P numbers
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from einops import rearrange

from diffusion_jax import fields
from diffusion_jax.errors import UserError


class _Geometry(fields.Checked):
    @property
    def data_grid(self) -> tuple[int, ...]:
        """Positions of all data tokens; those beyond `grid` condition and are not read out."""
        return self.grid

    @property
    def num_tokens(self) -> int:
        """Number of noisy tokens."""
        return math.prod(self.grid)

    @property
    def data_tokens(self) -> int:
        """Number of noisy and conditioning tokens."""
        return math.prod(self.data_grid)

    @property
    def patch_dim(self) -> int:
        """Numbers in a patch."""
        return math.prod(self.kernel_shape)


def _check_divides(patch: int, **sides: int) -> None:
    for name, side in sides.items():
        if side % patch:
            small = [p for p in range(1, math.isqrt(side) + 1) if side % p == 0]
            fits = sorted({*small, *(side // p for p in small)})
            raise UserError(
                f"patch_size {patch} does not divide {name} {side}: choose one of {fits}"
            )


@dataclasses.dataclass(frozen=True)
class Images(_Geometry):
    """Images (B, H, W, C), square or not, in patches of `patch_size` squared.

    Raises:
      UserError: on construction, for a size below 1 or a patch that does not divide the sides.
    """

    height: int = fields.count()
    width: int = fields.count()
    channels: int = fields.count()
    patch_size: int = fields.count()

    def __post_init__(self):
        super().__post_init__()
        _check_divides(self.patch_size, height=self.height, width=self.width)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return (self.height, self.width, self.channels)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return (self.height // self.patch_size, self.width // self.patch_size)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """(patch_size, patch_size, C)."""
        return (self.patch_size, self.patch_size, self.channels)

    def to_patches(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) -> (B, rows columns, P), row by row."""
        p = self.patch_size
        return rearrange(x, "b (h p) (w q) c -> b (h w) (p q c)", p=p, q=p)

    def from_patches(self, patches: jax.Array) -> jax.Array:
        """(B, rows columns, P) -> (B, H, W, C)."""
        h, w = self.grid
        p = self.patch_size
        return rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", h=h, w=w, p=p, q=p)


@dataclasses.dataclass(frozen=True)
class Video(_Geometry):
    """Video (B, T, H, W, C) in 3-D patches; `conditioning_frames` of all `frames` are given.

    The noisy part has `frames - conditioning_frames` frames. A part whose length
    `frames_per_patch` does not divide is padded with zero frames at its end, which are cut again.

    Raises:
      UserError: on construction, for a size below 1, a patch that does not divide the
        sides, or no frame to generate.
    """

    frames: int = fields.count()
    height: int = fields.count()
    width: int = fields.count()
    channels: int = fields.count()
    patch_size: int = fields.count()
    frames_per_patch: int = fields.count()
    conditioning_frames: int = fields.count(0, at_least=0)

    def __post_init__(self):
        super().__post_init__()
        _check_divides(self.patch_size, height=self.height, width=self.width)
        if self.conditioning_frames >= self.frames:
            raise UserError(
                f"conditioning_frames is {self.conditioning_frames} of {self.frames} frames: "
                "leave at least one to generate"
            )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(T, H, W, C) of the noisy frames."""
        noisy = self.frames - self.conditioning_frames
        return (noisy, self.height, self.width, self.channels)

    def _grid(self, frames: int) -> tuple[int, int, int]:
        p = self.patch_size
        return (-(-frames // self.frames_per_patch), self.height // p, self.width // p)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(times, rows, columns) of the noisy patches."""
        return self._grid(self.frames - self.conditioning_frames)

    @property
    def data_grid(self) -> tuple[int, int, int]:
        """(times, rows, columns) with the patches of the conditioning frames."""
        times, *space = self.grid
        return (times + self._grid(self.conditioning_frames)[0], *space)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """(frames_per_patch, patch_size, patch_size, C)."""
        return (self.frames_per_patch, self.patch_size, self.patch_size, self.channels)

    def to_patches(self, x: jax.Array) -> jax.Array:
        """(B, T, H, W, C) -> (B, times rows columns, P)."""
        s, p = self.frames_per_patch, self.patch_size
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % s), (0, 0), (0, 0), (0, 0)))
        return rearrange(x, "b (t s) (h p) (w q) c -> b (t h w) (s p q c)", s=s, p=p, q=p)

    def from_patches(self, patches: jax.Array) -> jax.Array:
        """(B, times rows columns, P) -> (B, T, H, W, C), T the noisy frames."""
        t, h, w = self.grid
        s, p = self.frames_per_patch, self.patch_size
        x = rearrange(
            patches, "b (t h w) (s p q c) -> b (t s) (h p) (w q) c", t=t, h=h, w=w, s=s, p=p, q=p
        )
        return x[:, : self.frames - self.conditioning_frames]


@dataclasses.dataclass(frozen=True)
class Tokens(_Geometry):
    """Token sets and sequences (B, N, C): points, features, signals.

    Raises:
      UserError: on construction, for a size below 1.
    """

    count: int = fields.count()
    channels: int = fields.count()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(N, C)."""
        return (self.count, self.channels)

    @property
    def grid(self) -> tuple[int]:
        """(N,)."""
        return (self.count,)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """(C,)."""
        return (self.channels,)

    def to_patches(self, x: jax.Array) -> jax.Array:
        """(B, N, C), as it is."""
        return x

    def from_patches(self, patches: jax.Array) -> jax.Array:
        """(B, N, C), as it is."""
        return patches


Geometry = Images | Video | Tokens
