"""Discrete noise schedules: gamma of every step in float64, and respacing (arXiv 2102.09672).

Values are gathered in float64 and only then rounded, so that none is lost in 1 - gamma.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.diffusion.process import Transition
from diffusion_jax.diffusion.spacings import kept_steps
from diffusion_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class DiscreteSchedule:
    """gamma of every step, 0 the least noisy.

    Attributes:
      gamma: (S,) float64, the running product of 1 - beta.
      timesteps: (S,) int32, what the network is told: a step's place in the original discrete
        schedule.
    """

    gamma: np.ndarray
    timesteps: np.ndarray

    def __len__(self) -> int:
        return len(self.gamma)

    @functools.cached_property
    def gamma_next(self) -> np.ndarray:
        """(S,) float64, of the step after each in the reverse process: of S - 1 is S - 2."""
        return np.append(1.0, self.gamma[:-1])

    @functools.cached_property
    def beta(self) -> np.ndarray:
        """(S,) float64."""
        return 1 - self.gamma / self.gamma_next

    @functools.cached_property
    def log_posterior(self) -> np.ndarray:
        """(S,) float64, log variance of q(x_{t-1} | x_t, x_0); at step 0 that of step 1."""
        variance = self.beta * (1 - self.gamma_next) / (1 - self.gamma)
        variance[0] = variance[1] if len(self) > 1 else self.beta[0]
        return np.log(variance)

    def index(self, t: jax.Array) -> jax.Array:
        """Times in [0, 1), of any shape -> int32 steps floor(t S)."""
        return jnp.minimum(jnp.floor(t * len(self)).astype(jnp.int32), len(self) - 1)

    def level(self, index: jax.Array, dtype: jnp.dtype) -> NoiseLevel:
        """The noise level of int steps of any shape."""
        gamma, noise_power, timesteps = (
            _gather(values, index, kind)
            for values, kind in (
                (self.gamma, dtype),
                (1 - self.gamma, dtype),
                (self.timesteps, jnp.int32),
            )
        )
        return NoiseLevel(gamma, timesteps, noise_power)

    def transition(self, index: jax.Array, dtype: jnp.dtype) -> Transition:
        """The reverse step out of int steps of any shape; out of step 0 it leads to no noise."""
        next_level = NoiseLevel(
            _gather(self.gamma_next, index, dtype),
            _gather(np.append(0, self.timesteps[:-1]), index, jnp.int32),
            _gather(1 - self.gamma_next, index, dtype),
        )
        return Transition(
            self.level(index, dtype),
            next_level,
            _gather(self.beta, index, dtype),
            _gather(self.log_posterior, index, dtype),
        )

    def respaced(self, steps: int, spacing: str) -> "DiscreteSchedule":
        """Return a schedule of `steps` of these steps; the noisiest is always among them.

        Args:
          spacing: how to choose them; see `diffusion_jax.diffusion.spacings`.

        Raises:
          UserError: for a number of steps that the discrete schedule or the spacing cannot give.
        """
        if not 1 <= steps <= len(self):
            raise UserError(
                f"steps is {steps}: the schedule has {len(self)}, give 1 to {len(self)}"
            )
        kept = kept_steps(self.gamma, steps, spacing)
        return DiscreteSchedule(self.gamma[kept], self.timesteps[kept])


def _gather(values: np.ndarray, index: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jnp.asarray(values, dtype)[index]


def _from_betas(betas: np.ndarray) -> DiscreteSchedule:
    return DiscreteSchedule(np.cumprod(1 - betas), np.arange(len(betas), dtype=np.int32))


def linear_betas(steps: int) -> DiscreteSchedule:
    """beta from 1e-4 to 2e-2 at 1000 steps, scaled by 1000 / steps (arXiv 2006.11239)."""
    scale = 1000 / steps
    return _from_betas(np.linspace(scale * 1e-4, scale * 2e-2, steps))


def cosine_betas(steps: int) -> DiscreteSchedule:
    """gamma as cos((t + 0.008) / 1.008 pi/2)^2, beta at most 0.999 (arXiv 2102.09672, eq. 17)."""
    t = np.arange(steps + 1) / steps
    gamma = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return _from_betas(np.minimum(1 - gamma[1:] / gamma[:-1], 0.999))
