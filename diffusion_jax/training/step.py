"""One jitted train step: loss, gradient, optimizer, EMA."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax.autoencoder.moments import to_latents, unpack
from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import objectives, process
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, within
from diffusion_jax.training import power_ema
from diffusion_jax.training.state import TrainState

Batch = dict[str, jax.Array]


def split_batch(
    batch: Batch,
    keys: jax.Array,
    scale: float,
    conditioning_frames: int,
    scaling: Scaling = STABLE_DIFFUSION,
) -> tuple[jax.Array, Condition]:
    """Data and condition of a batch.

    Args:
      batch: 'images' (B, ...) uint8 or [0, 1] float, or 'moments' (B, h, w, 2c) of latents; and
        'labels' (B,) int32 if there are classes.
      keys: (B,) keys of the examples.
      scale: b; images become [-b, b].
      conditioning_frames: leading frames of a video that are given, not generated.
      scaling: of latents.

    Returns:
      (x0, condition); x0 of moments are latents, drawn anew at every step.
    """
    frames = None
    if "moments" in batch:
        posterior = unpack(batch["moments"])
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, 2**31)  # not the keys of the noise
        eps = jax.vmap(lambda key: jax.random.normal(key, posterior.mean.shape[1:]))(own)
        x0 = to_latents(posterior.sample(eps), scaling)
    else:
        x0 = process.to_model_range(batch["images"], scale)
    if conditioning_frames:
        frames, x0 = x0[:, :conditioning_frames], x0[:, conditioning_frames:]
    return x0, Condition(labels=batch.get("labels"), frames=frames)


def make_train_step(
    denoiser: Any,
    objective: objectives.Objective,
    optimizer: optax.GradientTransformation,
    sharding: TrainState,
    mesh: Mesh,
    *,
    seed: int,
    ema_decay: float,
    ema_powers: Sequence[float] = (),
    accumulate: int = 1,
    conditioning_frames: int = 0,
    scaling: Scaling = STABLE_DIFFUSION,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The train step, with the state donated.

    Noise, time and masks of an example are keyed by (seed, step, position in the global batch), so
    the step computes the same on any number of devices. Gradients of `accumulate` micro-batches are
    averaged before the one update.

    Args:
      sharding: of every leaf of the state, see `diffusion_jax.parallel.sharding.of_state`.
      ema_powers: exponents of the averages of a `TrackedState`, see `power_ema`.
      scaling: of latents, where the data are their moments.

    Returns:
      (state, batch) -> (state, {'loss', 'gradient_norm'}), float32 scalars.
    """

    def micro_loss(params, micro_batch: Batch, keys: jax.Array, dropout_key: jax.Array):
        x0, condition = split_batch(
            micro_batch, keys, objective.input_scale, conditioning_frames, scaling
        )
        draws = objectives.draw(keys, x0.shape[1:])
        return objectives.loss(denoiser, params, objective, x0, condition, draws, dropout_key)

    def step(state: TrainState, batch: Batch):
        step_key = jax.random.fold_in(jax.random.key(seed), state.step)
        example_key, dropout_key = jax.random.split(step_key)
        positions = jnp.arange(jax.tree.leaves(batch)[0].shape[0])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(example_key, positions)

        def one(total, inputs):
            index, micro_batch, micro_keys = inputs
            key = jax.random.fold_in(dropout_key, index)
            result = jax.value_and_grad(micro_loss)(state.params, micro_batch, micro_keys, key)
            return jax.tree.map(jnp.add, total, result), None

        def split(part):  # micro-batch i has examples i, i + accumulate, ...: some of every device
            return part.reshape(-1, accumulate, *part.shape[1:]).swapaxes(0, 1)

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        micro = (jnp.arange(accumulate), *jax.tree.map(split, (batch, keys)))
        total, _ = jax.lax.scan(one, zero, micro)
        loss, gradient = jax.tree.map(lambda part: part / accumulate, total)

        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optax.incremental_update(params, state.ema, 1 - ema_decay)
        after = state.replace(step=state.step + 1, params=params, ema=ema, opt_state=opt_state)
        if ema_powers:
            emas = (
                optax.incremental_update(params, old, power_ema.update_rate(gamma, after.step))
                for gamma, old in zip(ema_powers, state.power_emas, strict=True)
            )
            after = after.replace(power_emas=tuple(emas))
        return after, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    return jax.jit(
        within(mesh, step),
        donate_argnums=0,
        in_shardings=(sharding, by_example(mesh)),
        out_shardings=(sharding, replicated(mesh)),
    )
