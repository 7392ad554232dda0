"""The one interface between a denoising network and everything else.

A denoiser is a pure function

    denoiser.apply(variables, x_t, noise, condition, carry, *, train, rngs) -> Prediction
    denoiser.initial_carry(batch_size) -> pytree

The train step and the samplers treat `carry` as opaque: RIN hands its latents from one pass to the
next, a network without memory hands `()`. What else shared code has to know, a network declares:

    geometry           what its data are, see `diffusion_jax.geometry`
    num_classes        0 for none
    learned_variance   optional, whether the output has learned-variance channels
    its parameters     their axes and treatment, see `diffusion_jax.parallel.axes`
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import UserError

Array = jax.Array | np.ndarray  # what a jitted program takes
NULL_LABEL = -1  # what a dropped label becomes; every network gives it its unconditional embedding


class NoiseLevel(NamedTuple):
    """The noise level of `x_t`, in the terms that either paper feeds its network.

        x_t = alpha x_0 + sigma eps,  alpha = sqrt(gamma),  sigma = sqrt(1 - gamma)

    Attributes:
      gamma: (B,) float, the signal power.
      timestep: (B,) int32, the step of a discrete schedule, or None in continuous time.
      noise_power: (B,) float, 1 - gamma where a discrete schedule holds it exactly: near gamma = 1
        the subtraction would lose it. None subtracts.
    """

    gamma: jax.Array
    timestep: jax.Array | None = None
    noise_power: jax.Array | None = None

    @property
    def alpha(self) -> jax.Array:
        """(B,) sqrt(gamma)."""
        return jnp.sqrt(self.gamma)

    @property
    def sigma_squared(self) -> jax.Array:
        """(B,) 1 - gamma, the power of the noise."""
        return 1 - self.gamma if self.noise_power is None else self.noise_power

    @property
    def sigma(self) -> jax.Array:
        """(B,) sqrt(1 - gamma)."""
        return jnp.sqrt(self.sigma_squared)


class Condition(NamedTuple):
    """What a sample is conditioned on; absent parts are None.

    Attributes:
      labels: (B,) int32 class labels, `NULL_LABEL` for "no class".
      tokens: (B, S, F) float features, a sequence to condition on instead of a label.
      frames: (B, T, H, W, C) float conditioning frames of a video, never dropped.
    """

    labels: Array | None = None
    tokens: Array | None = None
    frames: Array | None = None

    def need(self, part: str) -> jax.Array:
        """Return the part of that name.

        Raises:
          UserError: if it is absent, and the network cannot do without it.
        """
        if (found := getattr(self, part)) is None:
            raise UserError(f"condition.{part} is None, and this network needs {part}")
        return found

    def keep(self, mask: Array) -> "Condition":
        """Return the condition without label and tokens where `mask` (B,) bool is false."""
        labels, tokens = self.labels, self.tokens
        if labels is not None:
            labels = jnp.where(mask, labels, NULL_LABEL)
        if tokens is not None:
            tokens = tokens * mask[:, None, None].astype(tokens.dtype)
        return self._replace(labels=labels, tokens=tokens)

    def dropped(self) -> "Condition":
        """Return the unconditional counterpart, for guidance."""
        batch = next(part.shape[0] for part in self if part is not None)
        return self.keep(jnp.zeros((batch,), bool))


class Prediction(NamedTuple):
    """What a denoiser returns.

    Attributes:
      output: shaped like x_t, in its objective's terms; a network that also predicts variances has
        them as further channels, as many as x_t has.
      carry: for the next pass.
    """

    output: jax.Array
    carry: Any
