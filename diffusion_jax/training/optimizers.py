"""Learning-rate schedules, LAMB as the reference applies it, and AdamW."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax.fields import Checked, choice, count, number
from diffusion_jax.stack import layer_axes, names

OPTIMIZERS = ("lamb", "adamw")
DECAYS = ("constant", "cosine")

# The rate of S4D's time steps and state matrices is at most this.
STATE_SPACE_RATE = 1e-3
_STATE_SPACE = r"log_dt|log_decay|frequency"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Checked):
    """An optimizer and its learning rate.

    Attributes:
      name: 'lamb' or 'adamw'.
      learning_rate: the peak.
      warmup_steps: linear from 0.
      decay: 'constant', or 'cosine' to follow the first `cosine_part` of a half cosine.
      cosine_part: r of the paper's "cosine@r": decay over (total - warmup) / r steps.
      b1, b2, eps, weight_decay: of Adam, with decoupled decay.
      clip_norm: global gradient norm to clip to; 0 does not clip.
      start_step: the step of a run at which its moments begin; the schedule goes on there.
      rewarm_steps: from `start_step` on, over which the rate is multiplied by a line from 0 to 1.
        These two are of a run, not of its config.

    Raises:
      UserError: on construction, for an unknown name or a number out of range.
    """

    name: str = choice(OPTIMIZERS, "lamb")
    learning_rate: float = number(2e-3, at_least=0)
    warmup_steps: int = count(10_000, at_least=0)
    decay: str = choice(DECAYS, "cosine")
    cosine_part: float = number(0.7, above=0, at_most=1)
    b1: float = number(0.9, at_least=0, below=1)
    b2: float = number(0.999, at_least=0, below=1)
    eps: float = number(1e-8, above=0, at_most=1)
    weight_decay: float = number(0.01, at_least=0)
    clip_norm: float = number(0.0, at_least=0)
    start_step: int = count(0, at_least=0, in_config=False)
    rewarm_steps: int = count(0, at_least=0, in_config=False)


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Step (from 0) -> learning rate: warm-up, then constant or the first part of a cosine.

    All times the re-warm-up, if there is one.
    """
    rate = _schedule(config, total_steps)
    if not config.rewarm_steps:
        return rate
    ramp = optax.linear_schedule(0.0, 1.0, config.rewarm_steps, config.start_step)
    return lambda step: rate(step) * ramp(step)


def _schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay == "constant":
        main = optax.constant_schedule(peak)
    else:
        length = max((total_steps - warmup) / config.cosine_part, 1)
        main = optax.cosine_decay_schedule(peak, length)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """The optimizer as an optax transformation, which counts steps from `start_step`."""
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=adapted))
    if config.name == "lamb":
        parts.append(scale_by_layer_trust_ratio())
    rate = _from(config.start_step, learning_rate(config, total_steps))
    parts.append(optax.scale_by_learning_rate(rate))
    if config.learning_rate > STATE_SPACE_RATE:
        slower = optax.scale_by_schedule(
            lambda step: jnp.minimum(1.0, STATE_SPACE_RATE / jnp.maximum(rate(step), 1e-30))
        )
        parts.append(optax.masked(slower, lambda params: _named(_STATE_SPACE, params)))
    init, update = optax.chain(*parts)

    def promoting_update(*args):
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its int32 counts
            return update(*args)

    return optax.GradientTransformation(init, promoting_update)


def _from(start: int, schedule: optax.Schedule) -> optax.Schedule:
    """The schedule of a count that is 0 at step `start`."""
    return (lambda count: schedule(count + start)) if start else schedule


def adapted(params: Any) -> Any:
    """Tree of bools: false for what gets neither decay nor trust ratio.

    That is norms, biases, and the time steps and state matrices of S4D.
    """
    return jax.tree.map(lambda found: not found, _named(f"bias|scale|{_STATE_SPACE}", params))


def _named(endings: str, params: Any) -> Any:
    """Tree of bools: whose name ends so."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: bool(re.search(rf"({endings})$", names(path)[-1])), params
    )


def scale_by_layer_trust_ratio() -> optax.GradientTransformation:
    """LAMB's |w| / |update| per variable and layer (arXiv 1904.00962), 1 where either is zero.

    A variable stacked over layers has one ratio a layer, as it would have unstacked; norms and
    biases have none.
    """

    def update(updates, state, params):
        def scale(path, is_adapted, update, param):
            if not is_adapted:
                return update
            axes = tuple(range(layer_axes(path), param.ndim))
            weight_norm, update_norm = (_norm(value, axes) for value in (param, update))
            usable = (weight_norm > 0) & (update_norm > 0)
            ratio = jnp.where(usable, weight_norm / jnp.where(usable, update_norm, 1), 1)
            return update * ratio

        scaled = jax.tree_util.tree_map_with_path(scale, adapted(params), updates, params)
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _norm(value: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(value), axis=axes, keepdims=True))
