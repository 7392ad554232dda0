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


@flax.struct.dataclass
class TrackedState(TrainState):
    """With averages of which others can be made after training.

    A class of its own: checkpoints of other runs have no place for them.

    Attributes:
      power_emas: trees like `params`, one for each width; see `diffusion_jax.training.power_ema`.
    """

    power_emas: tuple[Any, ...]


def create_state(params: Any, optimizer: optax.GradientTransformation, step: int = 0) -> TrainState:
    """The state before the first step, or with fresh moments after `step` of them."""
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.asarray(step, jnp.int32), params, ema, optimizer.init(params))


def tracked(state: TrainState, widths: int) -> TrainState:
    """The state with so many averages, which start at the parameters; as it was with none."""
    if not widths:
        return state
    emas = tuple(jax.tree.map(jnp.copy, state.params) for _ in range(widths))
    return TrackedState(state.step, state.params, state.ema, state.opt_state, emas)
