"""Losses by noise level are the training loss; norms by module add up to the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from diffusion_jax.diffusion import objectives
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.sampling.scan import sample_keys
from diffusion_jax.training.batches import split_batch
from diffusion_jax.training.diagnostics import make_gradient, make_level_losses, module_norms

BATCH = {
    "images": np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8),
    "labels": np.arange(16, dtype=np.int32) % 10,
}
INDICES = np.arange(16, dtype=np.int32)
TIMES = np.float32([0.1, 0.9])


@pytest.fixture(scope="module", params=[tiny.config, tiny.diffussm], ids=["RIN", "DiffuSSM"])
def made(request):
    """A network whose parameters are off their start, where much is zero."""
    experiment = build(request.param())
    params = jax.jit(experiment.init_params)(jax.random.key(0))
    moved = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params
    )
    return experiment, moved


def draws():
    keys = sample_keys(3, INDICES)
    x0, condition = split_batch(BATCH, keys, 1.0, 0)
    return x0, condition, objectives.draw(keys, x0.shape[1:])


@pytest.mark.parametrize("carried", [True, False])
def test_the_mean_of_a_level_is_the_training_loss_there(made, carried):
    experiment, params = made
    denoiser, objective = experiment.denoiser, experiment.objective
    run = make_level_losses(denoiser, objective, make_mesh(), seed=3, carried=carried)
    found = run(params, BATCH, INDICES, TIMES)
    assert found.shape == (2, 16)
    x0, condition, drawn = draws()
    kept = jnp.full((16,), float(carried))
    for t, losses in zip(TIMES, found, strict=True):
        at = drawn._replace(t=jnp.full((16,), t), keep_carry=kept, keep_label=jnp.ones((2, 16)))
        loss = jax.jit(lambda at: objectives.loss(denoiser, params, objective, x0, condition, at))(
            at
        )
        np.testing.assert_allclose(losses.mean(), loss, rtol=1e-5)
    assert found.std() > 0


def test_norms_of_the_gradient_by_module_and_layer_add_up(made):
    experiment, params = made
    denoiser, objective = experiment.denoiser, experiment.objective
    declared = experiment.declared
    run = make_gradient(denoiser, objective, make_mesh(), declared=declared, seed=3)
    gradient = run(params, BATCH, INDICES)
    x0, condition, drawn = draws()
    expected = jax.jit(
        jax.grad(lambda p: objectives.loss(denoiser, p, objective, x0, condition, drawn))
    )(params)
    norms = module_norms(gradient, declared)
    total = np.sqrt(sum(np.square(norm).sum() for norm in norms.values()))
    np.testing.assert_allclose(total, optax.tree.norm(expected), rtol=1e-4)
    of_layers = {name: norm.shape for name, norm in norms.items()}
    if "readout" in norms:
        assert of_layers["blocks_0/process"] == (1, 1)
        assert of_layers["blocks_0/read"] == (1,)
        np.testing.assert_allclose(
            norms["readout"], optax.tree.norm(expected["readout"]), rtol=1e-4
        )
    else:
        assert of_layers["blocks/ssm"] == (2,)
        last = jax.tree.map(lambda leaf: leaf[1], expected["blocks"]["ssm"])
        np.testing.assert_allclose(norms["blocks/ssm"][1], optax.tree.norm(last), rtol=1e-4)
