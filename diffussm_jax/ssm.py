"""The bidirectional state space layer: S4D kernels in both directions over one sequence."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion_jax.errors import check_choice
from diffussm_jax.convolution import FORMS, convolve
from diffussm_jax.s4d import STARTS, Modes, check_state_size, discretise, start_state_matrix

DIRECTIONS = ("forward", "backward")
DT = (1e-3, 1e-1)  # where dt starts, log-uniform


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

    state_size: int = 64
    start: str = "lin"
    form: str = "auto"
    param_dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check_choice("form", self.form, FORMS)
        check_choice("start", self.start, STARTS)
        check_state_size(self.state_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        """(B, L, D), or (B, L, 2, D) with an input for each direction, -> (B, L, 2, D).

        Of any float dtype, which the output has too.
        """
        channels = u.shape[-1]
        u_BDL = [
            direction.astype(self.param_dtype).swapaxes(1, 2)
            for direction in ([u] if u.ndim == 3 else [u[:, :, 0], u[:, :, 1]])
        ]
        modes = [self._modes(direction, channels) for direction in DIRECTIONS]
        shared = len(u_BDL) == 1
        skip = self.param("skip", nn.initializers.normal(1.0), (2, channels), self.param_dtype)
        y_BDL = convolve(u_BDL[0] if shared else tuple(u_BDL), *modes, skip, self.form)
        return jnp.moveaxis(jnp.stack(y_BDL, axis=1), 3, 1).astype(u.dtype)

    def _modes(self, name: str, channels: int) -> Modes:
        """The state spaces of one direction, one per channel."""
        a = start_state_matrix(self.start, self.state_size)
        pairs = (channels, self.state_size // 2)

        def param(suffix, init, shape):
            return self.param(f"{name}_{suffix}", init, shape, self.param_dtype)

        def log_uniform(key, shape, dtype):
            low, high = (math.log(bound) for bound in DT)
            return jax.random.uniform(key, shape, dtype, low, high)

        def table(values):
            return lambda key, shape, dtype: jnp.broadcast_to(jnp.asarray(values, dtype), shape)

        log_dt = param("log_dt", log_uniform, (channels,))
        log_decay = param("log_decay", table(math.log(0.5)), pairs)
        frequency = param("frequency", table(a.imag), pairs)
        c = param("c", nn.initializers.normal(math.sqrt(0.5)), (*pairs, 2))
        return discretise(log_dt, log_decay, frequency, c)
