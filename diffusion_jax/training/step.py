"""One update of the parameters: loss, gradient, optimizer, moving averages; one jitted program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import einops
import flax
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.diffusion import objectives
from diffusion_jax.parallel.sharding import Mesh, by_example, replicated, within
from diffusion_jax.training import power_ema
from diffusion_jax.training.batches import Batch, split_batch
from diffusion_jax.training.state import TrackedState, TrainState


@flax.struct.dataclass
class StepMetrics(clu_metrics.Collection):
    """Metrics of a step; `merge` adds up those of several, `compute` returns their means."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]  # made here
    gradient_norm: clu_metrics.Average.from_output("gradient_norm")  # type: ignore[valid-type]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """One update of a `TrainState` by a batch, in plain JAX; `make_train_step` compiles it.

    Attributes:
      denoiser: the network; see `diffusion_jax.denoiser`.
      objective: the training loss.
      optimizer: the optax transformation that turns gradients into updates.
      seed: seed of noise, times, masks and dropout.
      ema_decay: d of the moving average ema <- d ema + (1 - d) params.
      ema_powers: exponents gamma of the averages of a `TrackedState`; see `power_ema`.
      accumulate: number of micro-batches whose gradients are averaged before the one update.
      conditioning_frames, scaling: see `split_batch`.
    """

    denoiser: Any
    objective: objectives.Objective
    optimizer: optax.GradientTransformation
    _: dataclasses.KW_ONLY
    seed: int
    ema_decay: float
    ema_powers: tuple[float, ...] = ()
    accumulate: int = 1
    conditioning_frames: int = 0
    scaling: Scaling = STABLE_DIFFUSION

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        """Return the state after one update, and the loss and gradient norm before it."""
        # Every random number is keyed by (seed, step, position in the global batch): the step
        # computes the same on any number of devices, and after a restart.
        step_key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        example_key, dropout_key = jax.random.split(step_key)
        positions = jnp.arange(jax.tree.leaves(batch)[0].shape[0])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(example_key, positions)

        # g = grad L(theta);  theta <- theta + u(g, moments, theta);  then the averages of theta.
        loss, gradient = self._loss_and_gradient(state.params, batch, keys, dropout_key)
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        after = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        after = self._averaged(after)

        # Scalars on the device: the host reads them while the next step runs.
        metrics = StepMetrics.single_from_model_output(
            loss=loss, gradient_norm=optax.tree.norm(gradient)
        )
        return after, metrics

    def _loss(
        self, params: Any, batch: Batch, keys: jax.Array, dropout_key: jax.Array
    ) -> jax.Array:
        """Return the loss of a micro-batch (arXiv 2301.10972, algorithm 1).

        `objectives.loss` diffuses x0 to x_t = sqrt(gamma) x0 + sqrt(1 - gamma) eps, runs the carry
        pass, through which no gradient flows (RIN's latent self-conditioning, arXiv 2212.11972),
        and takes the error of the main pass, which starts from that carry.
        """
        scale = self.objective.input_scale
        x0, condition = split_batch(batch, keys, scale, self.conditioning_frames, self.scaling)
        draws = objectives.draw(keys, x0.shape[1:])
        return objectives.loss(
            self.denoiser, params, self.objective, x0, condition, draws, dropout_key
        )

    def _loss_and_gradient(
        self, params: Any, batch: Batch, keys: jax.Array, dropout_key: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Return the means of loss and gradient over the micro-batches, one after the other."""

        def split(part: jax.Array) -> jax.Array:
            # Micro-batch i has the examples i, i + accumulate, ..., so that every device, which
            # holds neighbours, has an equal part of each.
            return einops.rearrange(part, "(b micro) ... -> micro b ...", micro=self.accumulate)

        def add(total, inputs):
            index, micro_batch, micro_keys = inputs
            key = jax.random.fold_in(dropout_key, index)
            result = jax.value_and_grad(self._loss)(params, micro_batch, micro_keys, key)
            return jax.tree.map(jnp.add, total, result), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        micro_batches = (jnp.arange(self.accumulate), *jax.tree.map(split, (batch, keys)))
        total, _ = jax.lax.scan(add, zero, micro_batches)
        return jax.tree.map(lambda part: part / self.accumulate, total)

    def _averaged(self, state: TrainState) -> TrainState:
        """Move every average towards the new parameters."""
        ema = optax.incremental_update(state.params, state.ema, 1 - self.ema_decay)
        if not isinstance(state, TrackedState):
            return state.replace(ema=ema)
        # These have a decay that grows with the step, so that their width is a fixed part of the
        # training until then (arXiv 2312.02696, section 3).
        power_emas = tuple(
            optax.incremental_update(state.params, old, power_ema.update_rate(gamma, state.step))
            for gamma, old in zip(self.ema_powers, state.power_emas, strict=True)
        )
        return state.replace(ema=ema, power_emas=power_emas)


def make_train_step(
    step: TrainStep, sharding: TrainState, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """Compile a train step for a mesh.

    Args:
      step: what to compute.
      sharding: of every leaf of the state; see `diffusion_jax.parallel.sharding.of_state`.

    Returns:
      (state, batch) -> (state, metrics). The old state is donated: its buffers hold the new one.
    """
    return jax.jit(
        within(mesh, step),
        donate_argnums=0,
        in_shardings=(sharding, by_example(mesh)),
        out_shardings=(sharding, replicated(mesh)),
    )
