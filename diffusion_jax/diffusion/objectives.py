"""Training losses, with self-conditioning (arXiv 2301.10972, algorithm 1).

    L = E ||eps - eps_hat(x_t, t)||^2                     (arXiv 2006.11239, eq. 14)

or the same in x0 or v. With learned variances the loss is hybrid, L + the variational bound (arXiv
2102.09672, eq. 16). Every random number of an example is drawn by `draw` from the example's own
key, so a loss does not depend on which device computes which example.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.diffusion import process, variational
from diffusion_jax.diffusion.discrete import DiscreteSchedule
from diffusion_jax.diffusion.schedules import Schedule, noise_level
from diffusion_jax.errors import UserError
from diffusion_jax.fields import Checked, choice, number, rate

SELF_CONDITIONING = ("none", "mask", "first")
VARIANCES = ("fixed", "learned")


@dataclasses.dataclass(frozen=True)
class Objective(Checked):
    """What the network predicts and how its error is measured.

    Attributes:
      schedule: gamma(t) of training, or a discrete schedule.
      prediction: what the network's output stands for: 'eps', 'x0' or 'v'.
      loss: the space of the squared error: 'eps', 'x0' or 'v'.
      variance: 'fixed', or 'learned': the network has variance channels, and the variational bound,
        which has weight 1, trains them alone. It needs a discrete schedule, and data in [-1, 1].
      input_scale: b; data lie in [-b, b].
      normalize_input: the network sees x_t / std(x_t).
      clip_x0: x0 is clipped to [-b, b], in x0 losses as in sampling.
      self_conditioning: 'mask' runs the carry pass on the whole batch and keeps each example's
        carry with probability `self_conditioning_rate`; 'first' runs it on the first
        floor(rate * B) examples; 'none' has no carry pass.
      self_conditioning_rate: that probability, or share of the batch.
      label_dropout: probability of dropping a label, drawn separately for the two passes.

    Raises:
      UserError: on construction, for an unknown name or a rate outside [0, 1].
    """

    schedule: Schedule
    prediction: str = choice(process.PREDICTIONS, "eps")
    loss: str = choice(process.PREDICTIONS, "eps")
    variance: str = choice(VARIANCES, "fixed")
    input_scale: float = number(1.0, above=0, at_most=1e3)
    normalize_input: bool = False
    clip_x0: bool = True
    self_conditioning: str = choice(SELF_CONDITIONING, "mask")
    self_conditioning_rate: float = rate(0.9)
    label_dropout: float = rate(0.0)

    def __post_init__(self):
        super().__post_init__()
        if self.variance == "learned" and not isinstance(self.schedule, DiscreteSchedule):
            raise UserError(
                "variance is 'learned': it needs a discrete schedule, as 'linear_betas'"
            )
        if self.variance == "learned" and self.input_scale != 1:
            raise UserError(
                f"variance is 'learned' and input_scale {self.input_scale}: the bound is that of "
                "data in [-1, 1]; set input_scale=1"
            )

    @property
    def clip(self) -> float | None:
        """Where x0 is clipped, None where it is not."""
        return self.input_scale if self.clip_x0 else None

    @property
    def channel_factor(self) -> int:
        """Output channels of the network to one of the data."""
        return 2 if self.variance == "learned" else 1


class Draws(NamedTuple):
    """The random numbers of a batch.

    Attributes:
      t: (B,) uniform times.
      eps: (B, ...) standard normal, shaped like x0.
      keep_carry: (B,) uniform; the carry is kept where it exceeds 1 - rate.
      keep_label: (2, B) uniform, of the carry pass and of the main pass; kept where above dropout.
    """

    t: jax.Array
    eps: jax.Array
    keep_carry: jax.Array
    keep_label: jax.Array


def draw(keys: jax.Array, shape: tuple[int, ...]) -> Draws:
    """Draw a batch's random numbers from one key per example, (B,); an example has this shape."""

    def one(key):
        uniform_key, eps_key = jax.random.split(key)
        return jax.random.uniform(uniform_key, (4,)), jax.random.normal(eps_key, shape)

    uniform, eps = jax.vmap(one)(keys)
    return Draws(uniform[:, 0], eps, uniform[:, 1], uniform[:, 2:].T)


def denoise(
    denoiser: Any,
    params: Any,
    objective: Objective,
    x_t: jax.Array,
    noise: NoiseLevel,
    condition: Condition,
    carry: Any,
    **kwargs: Any,
) -> Prediction:
    """Run one pass of the network, which alone sees the normalised input.

    Args:
      x_t: (B, ..., C) noisy data, float32 or wider.
      noise: the noise level, (B,) values.
      carry: the carry of the pass before, or the initial one.
      **kwargs: to `denoiser.apply`: train, rngs.

    Returns:
      A `Prediction`; its output has 2C channels if the objective learns variances, else C.

    Raises:
      UserError: if the network's output has other channels.
    """
    seen = process.unit_variance(x_t) if objective.normalize_input else x_t
    prediction = denoiser.apply({"params": params}, seen, noise, condition, carry, **kwargs)
    found, wanted = prediction.output.shape[-1], x_t.shape[-1] * objective.channel_factor
    if found != wanted:
        raise UserError(
            f"the network puts out {found} channels, and variance={objective.variance!r} wants "
            f"{wanted} for data of {x_t.shape[-1]}: change the network's variance head or the "
            "objective's variance"
        )
    return prediction


def loss(
    denoiser: Any,
    params: Any,
    objective: Objective,
    x0: jax.Array,
    condition: Condition,
    draws: Draws,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Return the mean squared error of a batch, plus the bound where variances are learned.

    Args:
      denoiser: a denoiser (see `diffusion_jax.denoiser`).
      params: its parameters.
      x0: (B, ...) clean data in [-b, b].
      condition: what the examples are conditioned on.
      draws: the batch's random numbers.
      dropout_key: key of the network's own randomness, None for a network without any.

    Returns:
      A float32 (or wider) scalar.
    """
    error, bound = _errors(denoiser, params, objective, x0, condition, draws, True, dropout_key)
    squared_error = jnp.mean(jnp.square(error))
    return squared_error if bound is None else squared_error + jnp.mean(bound)


def losses(
    denoiser: Any,
    params: Any,
    objective: Objective,
    x0: jax.Array,
    condition: Condition,
    draws: Draws,
) -> jax.Array:
    """Return the `loss` of each example, (B,), without dropout; arguments as there."""
    error, bound = _errors(denoiser, params, objective, x0, condition, draws, False, None)
    squared_errors = jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))
    return squared_errors if bound is None else squared_errors + bound


def _errors(
    denoiser, params, objective: Objective, x0, condition, draws: Draws, train: bool, dropout_key
) -> tuple[jax.Array, jax.Array | None]:
    """Return the error, shaped like x0, and the bound (B,), None where variances are fixed."""
    noise = noise_level(objective.schedule, draws.t)
    x_t = process.diffuse(x0, draws.eps, noise)

    def run(pass_index: int, count: int, carry):
        kept = condition
        if objective.label_dropout:
            kept = condition.keep(draws.keep_label[pass_index] > objective.label_dropout)
        rngs = None  # the passes drop labels and units independently
        if dropout_key is not None:
            rngs = {"dropout": jax.random.fold_in(dropout_key, pass_index)}
        x, level, kept = jax.tree.map(lambda part: part[:count], (x_t, noise, kept))
        return denoise(denoiser, params, objective, x, level, kept, carry, train=train, rngs=rngs)

    carry = _carry(denoiser, objective, draws, x0.shape[0], run)
    output = run(1, x0.shape[0], carry).output.astype(x0.dtype)
    output, variance = jnp.split(output, [x0.shape[-1]], axis=-1)
    x0_hat, eps_hat = process.to_x0_eps(
        output, x_t, noise, objective.prediction, objective.clip, consistent_eps=False
    )
    if objective.loss == "eps":
        error = draws.eps - eps_hat
    elif objective.loss == "x0":
        error = (x0 - x0_hat) / objective.input_scale
    else:
        v_hat = output if objective.prediction == "v" else process.velocity(x0_hat, eps_hat, noise)
        error = process.velocity(x0, draws.eps, noise) - v_hat
    if objective.variance == "fixed":
        return error, None
    return error, _bound(objective, x0, x_t, output, variance, draws.t)


def _bound(objective: Objective, x0, x_t, output, variance, t) -> jax.Array:
    """Return the variational bound, (B,) bits; its gradient reaches the variance channels alone."""
    discrete = objective.schedule
    assert isinstance(discrete, DiscreteSchedule)  # where variances are learned
    step = discrete.transition(discrete.index(t), t.dtype)
    x0_hat, _ = process.to_x0_eps(
        jax.lax.stop_gradient(output),  # the squared error trains the mean (section 3.1)
        x_t,
        step.now,
        objective.prediction,
        None,
        consistent_eps=False,
    )
    log_variance = process.learned_log_variance(variance, step)
    return variational.bound(x0, x_t, x0_hat, log_variance, step)


def _carry(denoiser, objective: Objective, draws: Draws, batch_size: int, run) -> Any:
    """Return the carry that the main pass starts from; no gradient flows into it."""
    empty = denoiser.initial_carry(batch_size)
    if objective.self_conditioning == "none" or not jax.tree.leaves(empty):
        return empty
    rate = objective.self_conditioning_rate
    # Either way, the network sees both kinds of passes: those with a carry, as all but the first
    # step of sampling, and those without.
    if objective.self_conditioning == "first":
        count = int(batch_size * rate)
        if count == 0:
            return empty
        carry = run(0, count, denoiser.initial_carry(count)).carry
        carry = jax.tree.map(lambda new, old: old.at[:count].set(new), carry, empty)
    else:
        carry = run(0, batch_size, empty).carry
        kept = draws.keep_carry > 1 - rate
        carry = jax.tree.map(
            lambda part: part * process.expand(kept, part).astype(part.dtype), carry
        )
    return jax.lax.stop_gradient(carry)
