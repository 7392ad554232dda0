"""RIN's compiled train step moves parameters and gradients between devices, never activations."""

import re

import jax
import jax.numpy as jnp
import pytest
import tiny

from diffusion_jax.collectives import collectives
from diffusion_jax.sharding import make_mesh
from diffusion_jax.training.optimizers import make_optimizer
from diffusion_jax.training.step import make_train_step
from launch.build import build

BATCH = 8 * 13  # of activations alone is some dimension a multiple of 13


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_no_activation_is_sent(fsdp):
    config = tiny.config(model__process_layers=(2, 2), model__dropout=0.1, model__drop_path=0.1)
    experiment = build(config)
    state = jax.eval_shape(lambda: experiment.init_state(0, 10))
    step = make_train_step(
        experiment.denoiser,
        experiment.objective,
        make_optimizer(experiment.optimizer, 10),
        state,
        make_mesh(fsdp=fsdp),
        seed=0,
        ema_decay=0.9,
    )
    batch = {
        "images": jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    }
    found = list(collectives(step.lower(state, batch).compile().as_text(), 8))
    sent = [
        f"{each.name} of {each.shapes}: {each.rest}" for each in found if is_activation(each.shapes)
    ]
    assert found
    assert not sent, "\n".join(sent)


def is_activation(shapes: str) -> bool:
    dimensions = ",".join(re.findall(r"\[([\d,]+)\]", shapes)).split(",")
    return any(int(size) % 13 == 0 for size in dimensions if size)
