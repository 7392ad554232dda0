"""What turns data into tokens and back: images, video, token sets and sequences.

A geometry is a frozen description without parameters; the network owns the patch kernel. Data with
`sides`, as (H, W), are cut into patches of sizes `patch`, as (p, q), and a patch becomes a token:

    (B, H, W, C) <-> (B, N, P)        N = (H / p) (W / q),  P = p q C
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange

from diffusion_jax import fields
from diffusion_jax.errors import UserError


class _Geometry(fields.Checked):
    """Base of what is cut into patches: a subclass has `channels`, `sides`, `patch` and patterns.

    The patterns are einops': t, h, w count tokens along the sides, s, p, q positions in a patch.
    """

    channels: int
    data_pattern: ClassVar[str]
    token_pattern: ClassVar[str]

    @property
    def sides(self) -> tuple[int, ...]:
        """Sizes of the noisy data, less batch and channels."""
        raise NotImplementedError

    @property
    def patch(self) -> tuple[int, ...]:
        """Sizes of a patch along the sides."""
        raise NotImplementedError

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of x_t, less the batch: (*sides, C)."""
        return (*self.sides, self.channels)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of noisy tokens along each side; tokens are in row-major order."""
        return self._grid(self.sides)

    @property
    def data_grid(self) -> tuple[int, ...]:
        """Positions of all data tokens; those beyond `grid` condition and are not read out."""
        return self.grid

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the patch kernel less its output width (fans as in a convolution)."""
        return (*self.patch, self.channels)

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
        """Numbers in a patch, P."""
        return math.prod(self.kernel_shape)

    def to_patches(self, x: jax.Array) -> jax.Array:
        """Cut data (B, *sides, C) into patches (B, N, P), row by row.

        A side that the patch does not divide is padded with zeros at its end.
        """
        missing = [-size % p for size, p in zip(x.shape[1:], self.patch, strict=False)]
        if any(missing):
            x = jnp.pad(x, ((0, 0), *((0, zeros) for zeros in missing), (0, 0)))
        inside = dict(zip("qps", reversed(self.patch), strict=False))
        return rearrange(x, f"{self.data_pattern} -> {self.token_pattern}", **inside)

    def from_patches(self, patches: jax.Array) -> jax.Array:
        """Put patches (B, num_tokens, P) together to data shaped like x_t; 2P numbers give 2C."""
        inside = dict(zip("qps", reversed(self.patch), strict=False))
        counts = dict(zip("wht", reversed(self.grid), strict=False))
        pattern = f"{self.token_pattern} -> {self.data_pattern}"
        x = rearrange(patches, pattern, **inside, **counts)
        return x[(slice(None), *map(slice, self.sides))]  # without the padding

    def _grid(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-side // p) for side, p in zip(sides, self.patch, strict=True))


def _check_divides(patch: int, **sides: int) -> None:
    for name, side in sides.items():
        if side % patch:
            fits = [p for p in range(1, side + 1) if side % p == 0]
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

    data_pattern, token_pattern = "b (h p) (w q) c", "b (h w) (p q c)"

    def __post_init__(self):
        super().__post_init__()
        _check_divides(self.patch_size, height=self.height, width=self.width)

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.height, self.width)

    @property
    def patch(self) -> tuple[int, int]:
        """(patch_size, patch_size)."""
        return (self.patch_size, self.patch_size)


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

    data_pattern, token_pattern = "b (t s) (h p) (w q) c", "b (t h w) (s p q c)"

    def __post_init__(self):
        super().__post_init__()
        _check_divides(self.patch_size, height=self.height, width=self.width)
        if self.conditioning_frames >= self.frames:
            raise UserError(
                f"conditioning_frames is {self.conditioning_frames} of {self.frames} frames: "
                "leave at least one to generate"
            )

    @property
    def sides(self) -> tuple[int, int, int]:
        """(T, H, W) of the noisy frames."""
        return (self.frames - self.conditioning_frames, self.height, self.width)

    @property
    def patch(self) -> tuple[int, int, int]:
        """(frames_per_patch, patch_size, patch_size)."""
        return (self.frames_per_patch, self.patch_size, self.patch_size)

    @property
    def data_grid(self) -> tuple[int, ...]:
        """(times, rows, columns) with the patches of the conditioning frames, which come last."""
        times, *space = self.grid
        return (times + self._grid((self.conditioning_frames, *self.sides[1:]))[0], *space)


@dataclasses.dataclass(frozen=True)
class Tokens(_Geometry):
    """Token sets and sequences (B, N, C): points, features, signals.

    Raises:
      UserError: on construction, for a size below 1.
    """

    count: int = fields.count()
    channels: int = fields.count()

    data_pattern, token_pattern = "b (w q) c", "b w (q c)"

    @property
    def sides(self) -> tuple[int]:
        """(N,)."""
        return (self.count,)

    @property
    def patch(self) -> tuple[int]:
        """(1,): each token is a patch."""
        return (1,)

    @property
    def kernel_shape(self) -> tuple[int]:
        """(C,), without an axis of length 1."""
        return (self.channels,)


Geometry = Images | Video | Tokens
