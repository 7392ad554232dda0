"""The parts of a loss and of a gradient: by noise level, by module, by layer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.diffusion import objectives
from diffusion_jax.parallel.axes import is_declared
from diffusion_jax.parallel.sharding import Mesh, by_example, of_state, replicated, within
from diffusion_jax.sampling.scan import sample_keys
from diffusion_jax.training.batches import Batch, split_batch


def make_level_losses(
    denoiser: Any,
    objective: objectives.Objective,
    mesh: Mesh,
    *,
    seed: int,
    carried: bool,
    conditioning_frames: int = 0,
    scaling: Scaling = STABLE_DIFFUSION,
) -> Callable[[Any, Batch, jax.Array, jax.Array], jax.Array]:
    """Return a function that takes the loss of each example at given times.

    All labels are kept, without dropout. The noise of an example is keyed by (seed, its index), and
    the same at all times.

    Args:
      carried: each main pass begins with the carry of a pass before it, as in training with
        self-conditioning; or with none.

    Returns:
      (params, batch, indices (B,) int32, times (T,) in [0, 1)) -> (T, B) float32.
    """
    measured = dataclasses.replace(
        objective,
        label_dropout=0.0,
        self_conditioning="mask" if carried else "none",
        self_conditioning_rate=1.0,
    )

    def run(params, batch: Batch, indices: jax.Array, times: jax.Array) -> jax.Array:
        keys = sample_keys(seed, indices)
        data = split_batch(batch, keys, objective.input_scale, conditioning_frames, scaling)
        draws = objectives.draw(keys, data[0].shape[1:])
        draws = draws._replace(keep_carry=jnp.ones_like(draws.keep_carry))

        def at(t: jax.Array) -> jax.Array:
            chosen = draws._replace(t=jnp.broadcast_to(t, draws.t.shape))
            return objectives.losses(denoiser, params, measured, *data, chosen)

        return jax.lax.map(at, times)

    in_shardings = (None, by_example(mesh), by_example(mesh), replicated(mesh))
    return jax.jit(within(mesh, run), in_shardings=in_shardings)


def make_gradient(
    denoiser: Any,
    objective: objectives.Objective,
    mesh: Mesh,
    *,
    declared: Any,
    seed: int,
    conditioning_frames: int = 0,
    scaling: Scaling = STABLE_DIFFUSION,
) -> Callable[[Any, Batch, jax.Array], Any]:
    """Return a function that takes the gradient of the training loss, masks and dropout included.

    Times, noise and masks of an example are keyed by (seed, its index).

    Args:
      declared: what the network declares, see `diffusion_jax.parallel.axes.declarations`.

    Returns:
      (params, batch, indices (B,) int32) -> a tree like params, and as they are sharded.
    """

    def loss(params, batch: Batch, indices: jax.Array) -> jax.Array:
        keys = sample_keys(seed, indices)
        data = split_batch(batch, keys, objective.input_scale, conditioning_frames, scaling)
        draws = objectives.draw(keys, data[0].shape[1:])
        return objectives.loss(denoiser, params, objective, *data, draws, keys[0])

    def run(params, batch: Batch, indices: jax.Array) -> Any:
        gradient = within(mesh, jax.grad(loss))(params, batch, indices)
        return jax.lax.with_sharding_constraint(gradient, of_state(params, mesh, declared))

    return jax.jit(run, in_shardings=(None, by_example(mesh), by_example(mesh)))


def module_norms(params: Any, declared: Any) -> dict[str, np.ndarray]:
    """Return Euclidean norms by module, of parameters or of a tree like them.

    A module is what is on top of the tree ('readout'), or lies in a stack that is there
    ('blocks_0/read'). A stack has a norm for each layer: the arrays have as many axes as stacks
    are nested, () for modules outside.
    """
    squares: dict[str, jax.Array] = {}
    boxes = jax.tree_util.tree_leaves_with_path(declared, is_leaf=is_declared)
    for (path, box), leaf in zip(boxes, jax.tree.leaves(params), strict=True):
        module = "/".join(entry.key for entry in path[: 2 if box.layers else 1])
        square = jnp.sum(jnp.square(leaf), axis=tuple(range(box.layers, leaf.ndim)))
        squares[module] = squares.get(module, 0) + square
    return {module: np.sqrt(square) for module, square in jax.device_get(squares).items()}
