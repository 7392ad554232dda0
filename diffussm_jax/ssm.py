"""The bidirectional state space layer: S4D kernels in both directions over one sequence."""

import functools
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from diffusion_jax.fields import check, choice, ruled
from diffusion_jax.parallel.axes import declare
from diffussm_jax.convolution import FORMS, convolve
from diffussm_jax.s4d import STARTS, Modes, discretise, even, start_state_matrix

DIRECTIONS = ("forward", "backward")
DT = (1e-3, 1e-1)  # where dt starts, log-uniform

# All of S4D's parameters stay float32 in exports: rounded time steps give kernels that are 10% off.
# Time steps and state matrices are not decayed, and learn at 1e-3 at most, as in S4D's own recipe
# (arXiv 2206.11893): an update of their logarithms multiplies whole time scales.
exact = functools.partial(declare, exact=True)
dynamics = functools.partial(exact, adapted=False, capped=True)


class BidirectionalSSM(nn.Module):
    """(B, L, D) -> (B, L, 2, D): forward, then backward, each with its own skip D u.

    Parameters, exponentials and convolutions are float32 (`param_dtype`) whatever the input.

    Attributes:
      state_size: N, even.
      start: of the state matrix: 'lin', 'inv' or 'legs'.
      form: of the convolution: 'auto', 'fft' or 'chunked'.

    Raises:
      UserError: on construction, for an odd `state_size` or an unknown name.
    """

    state_size: int = ruled(even, 64)
    start: str = choice(STARTS, "lin")
    form: str = choice(FORMS, "auto")
    param_dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        """Mix (B, L, D), or (B, L, 2, D) with an input for each direction, into (B, L, 2, D).

        The input has any float dtype, and the output the same.
        """
        channels = u.shape[-1]
        # The sequence comes last: an FFT over the last axis is 2.6 times faster on CPU.
        u_BxDxL = tuple(
            rearrange(part.astype(self.param_dtype), "b l d -> b d l")
            for part in ([u] if u.ndim == 3 else [u[:, :, 0], u[:, :, 1]])
        )
        forward, backward = (self._modes(direction, channels) for direction in DIRECTIONS)
        skip_init = exact(nn.initializers.normal(1.0), "directions", "channels")
        skip = self.param("skip", skip_init, (2, channels), self.param_dtype)
        u_BxDxL = u_BxDxL if len(u_BxDxL) == 2 else u_BxDxL[0]
        y_BxDxL = convolve(u_BxDxL, forward, backward, skip, self.form)
        return rearrange(jnp.stack(y_BxDxL, axis=1), "b way d l -> b l way d").astype(u.dtype)

    def _modes(self, name: str, channels: int) -> Modes:
        """The state spaces of one direction, one per channel."""
        a = start_state_matrix(self.start, self.state_size)
        pairs = (channels, self.state_size // 2)
        axes = ("channels", "state")

        def param(suffix, init, shape):
            return self.param(f"{name}_{suffix}", init, shape, self.param_dtype)

        def log_uniform(key, shape, dtype):
            low, high = (math.log(bound) for bound in DT)
            return jax.random.uniform(key, shape, dtype, low, high)

        def table(values):
            return lambda key, shape, dtype: jnp.broadcast_to(jnp.asarray(values, dtype), shape)

        # A = -exp(log_decay) + i frequency: its real part stays negative whatever is learnt.
        log_dt = param("log_dt", dynamics(log_uniform, "channels"), (channels,))
        log_decay = param("log_decay", dynamics(table(math.log(0.5)), *axes), pairs)
        frequency = param("frequency", dynamics(table(a.imag), *axes), pairs)
        normal = nn.initializers.normal(math.sqrt(0.5))  # complex, of variance 1
        c = param("c", exact(normal, *axes, "complex"), (*pairs, 2))
        return discretise(log_dt, log_decay, frequency, c)
