"""Everything that a training run carries from step to step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """The state of a run between two steps. A checkpoint is exactly this pytree.

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


class TrackedState(TrainState):
    """A state with further averages, from which EMAs of any width are made after training.

    It is a class of its own because checkpoints of other runs have no place for them.

    Attributes:
      power_emas: trees like `params`, one for each width; see `diffusion_jax.training.power_ema`.
    """

    power_emas: tuple[Any, ...]


def create_state(params: Any, optimizer: optax.GradientTransformation, step: int = 0) -> TrainState:
    """Return the state before the first step, or with fresh moments after `step` of them."""
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.asarray(step, jnp.int32), params, ema, optimizer.init(params))


def tracked(state: TrainState, widths: int) -> TrainState:
    """Return the state with so many averages, which start at the parameters."""
    if not widths:
        return state
    emas = tuple(jax.tree.map(jnp.copy, state.params) for _ in range(widths))
    return TrackedState(state.step, state.params, state.ema, state.opt_state, emas)
