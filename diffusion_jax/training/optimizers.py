"""Learning-rate schedules, LAMB as the reference applies it, and AdamW."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax.fields import Checked, choice, count, number
from diffusion_jax.parallel.axes import Declared, facts, map_declared

OPTIMIZERS = ("lamb", "adamw")
DECAYS = ("constant", "cosine")

CAPPED_RATE = 1e-3  # the highest learning rate of a parameter that is declared `capped`


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Checked):
    """The optimizer and its learning rate.

    Attributes:
      name: 'lamb' or 'adamw'.
      learning_rate: the peak.
      warmup_steps: steps of linear warm-up from 0.
      decay: 'constant', or 'cosine' to follow the first `cosine_part` of a half cosine.
      cosine_part: r of the paper's "cosine@r": decay over (total - warmup) / r steps.
      b1, b2, eps, weight_decay: of Adam, with decoupled decay.
      clip_norm: global gradient norm to clip to; 0 does not clip.
      start_step: the step of a run at which its moments begin; the schedule goes on there.
      rewarm_steps: steps from `start_step` on, over which the rate rises linearly from 0 again.
        These two belong to a run, not to its config.

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
    """Return step (from 0) -> learning rate: warm-up, then constant or the first part of a cosine.

    The whole is multiplied by the second warm-up, if there is one.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay == "constant":
        rate = optax.constant_schedule(peak)
    else:  # cosine@r stops after the first r of a half cosine
        length = max((total_steps - warmup) / config.cosine_part, 1)
        rate = optax.cosine_decay_schedule(peak, length)
    if warmup:
        rate = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), rate], [warmup])
    if not config.rewarm_steps:
        return rate
    ramp = optax.linear_schedule(0.0, 1.0, config.rewarm_steps, config.start_step)
    return lambda step: rate(step) * ramp(step)


def make_optimizer(
    config: OptimizerConfig, total_steps: int, declared: Any
) -> optax.GradientTransformation:
    """Return the optimizer as an optax transformation, which counts steps from `start_step`.

    Args:
      declared: what the network declares, see `diffusion_jax.parallel.axes.declarations`.
    """
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, facts(declared, "adapted")))
    if config.name == "lamb":
        parts.append(scale_by_layer_trust_ratio(declared))
    rate = learning_rate(config, total_steps)
    if start := config.start_step:  # fresh moments in the middle of a run: optax counts from 0
        schedule, rate = rate, lambda count: schedule(count + start)
    parts.append(optax.scale_by_learning_rate(rate))
    if config.learning_rate > CAPPED_RATE:
        # rate * min(1, cap / rate) = min(rate, cap), as a factor after the rate
        slower = optax.scale_by_schedule(
            lambda step: jnp.minimum(1.0, CAPPED_RATE / jnp.maximum(rate(step), 1e-30))
        )
        parts.append(optax.masked(slower, facts(declared, "capped")))
    init, update = optax.chain(*parts)

    def promoting_update(*args):
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its int32 counts
            return update(*args)

    return optax.GradientTransformation(init, promoting_update)


def scale_by_layer_trust_ratio(declared: Any) -> optax.GradientTransformation:
    """LAMB's |w| / |update| per variable and layer (arXiv 1904.00962), 1 where either is zero.

    A variable stacked over layers has one ratio a layer, as it would have unstacked. Variables that
    are not declared `adapted` have none.
    """

    def scale(box: Declared, update: jax.Array, param: jax.Array) -> jax.Array:
        if not box.adapted:
            return update
        axes = tuple(range(box.layers, param.ndim))
        weight_norm, update_norm = (
            jnp.sqrt(jnp.sum(jnp.square(value), axis=axes, keepdims=True))
            for value in (param, update)
        )
        usable = (weight_norm > 0) & (update_norm > 0)
        return update * jnp.where(usable, weight_norm / jnp.where(usable, update_norm, 1), 1)

    def update(updates, state, params):
        return map_declared(scale, declared, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
