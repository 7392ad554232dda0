"""RIN's compiled train step moves parameters and gradients between devices, never activations."""

import re

import pytest
import tiny

from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.collectives import collectives
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh

BATCH = 8 * 13  # of activations alone is some dimension a multiple of 13


DROPOUT = dict(model__process_layers=(2, 2), model__dropout=0.1, model__drop_path=0.1)
DECOUPLED = dict(
    model__time_on="interface",
    model__condition_on="interface",
    model__decoupled_read=True,
    model__condition_dim=16,
    model__convolution=3,
    model__attention_dropout=0.1,
)
IN_TIME = dict(model__condition_on="time", model__latent_dim=32)  # not 16: 16 + 10 is 2 x 13


@pytest.mark.parametrize(
    "fsdp, changes",
    [(1, DROPOUT), (4, DROPOUT), (8, DROPOUT), (8, DECOUPLED), (8, IN_TIME)],
    ids=["1", "4", "8", "decoupled", "time"],
)
def test_no_activation_is_sent(fsdp, changes):
    config = tiny.config(**changes)
    job = jobs.train_step(config, build(config), make_mesh(fsdp=fsdp), BATCH)
    found = list(collectives(job.trace().lower().compile().as_text(), 8))
    sent = [
        f"{each.name} of {each.shapes}: {each.rest}" for each in found if is_activation(each.shapes)
    ]
    assert found
    assert not sent, "\n".join(sent)


def is_activation(shapes: str) -> bool:
    dimensions = ",".join(re.findall(r"\[([\d,]+)\]", shapes)).split(",")
    return any(int(size) % 13 == 0 for size in dimensions if size)
