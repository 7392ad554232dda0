"""RIN's compiled train step moves parameters and gradients between devices, never activations."""

import re

import pytest
import tiny

from diffusion_jax.collectives import collectives
from diffusion_jax.sharding import make_mesh
from launch.build import build
from launch.programs import trace_train

BATCH = 8 * 13  # of activations alone is some dimension a multiple of 13


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_no_activation_is_sent(fsdp):
    config = tiny.config(model__process_layers=(2, 2), model__dropout=0.1, model__drop_path=0.1)
    traced = trace_train(config, build(config), make_mesh(fsdp=fsdp), BATCH)
    found = list(collectives(traced.lower().compile().as_text(), 8))
    sent = [
        f"{each.name} of {each.shapes}: {each.rest}" for each in found if is_activation(each.shapes)
    ]
    assert found
    assert not sent, "\n".join(sent)


def is_activation(shapes: str) -> bool:
    dimensions = ",".join(re.findall(r"\[([\d,]+)\]", shapes)).split(",")
    return any(int(size) % 13 == 0 for size in dimensions if size)
