"""Everything that a training run carries from step to step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """A pytree; a checkpoint is exactly this.

    Attributes:
      step: int32 scalar, the number of updates made.
      params: float32 parameters.
      ema: exponential moving average of `params`, which starts at them.
      opt_state: the optimizer's moments.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any


def create_state(params: Any, optimizer: optax.GradientTransformation, step: int = 0) -> TrainState:
    """The state before the first step, or with fresh moments after `step` of them."""
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.asarray(step, jnp.int32), params, ema, optimizer.init(params))
