"""The compiled train step moves parameters and gradients between devices, never activations."""

import re

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs.diffussm import digits
from diffusion_jax.compilation import jobs
from diffusion_jax.compilation.collectives import Collective, collectives
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh
from diffussm_jax import BidirectionalSSM

# Sizes that tell arrays apart: of activations alone is some dimension a multiple of 11 or 13.
POSITIONS, BATCH = 11, 8 * 13


def config(form: str) -> ConfigDict:
    made = digits.get_config()
    made.model.update(dim=16, layers=2, state_size=4, num_classes=4, positions="none", form=form)
    made.model.geometry.update(height=2, width=POSITIONS)
    return made


def compiled(form: str, fsdp: int, tensor: int) -> str:
    """HLO of the train step on eight devices."""
    made = config(form)
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    job = jobs.train_step(made, build(made), mesh, BATCH)
    return job.trace().lower().compile().as_text()


def is_activation(shapes: str) -> bool:
    dimensions = ",".join(re.findall(r"\[([\d,]+)\]", shapes)).split(",")
    return any(int(size) % 11 == 0 or int(size) % 13 == 0 for size in dimensions if size)


def is_tensor_sum(found: Collective) -> bool:
    """An all-reduce between neighbours: 'tensor' is the last axis of the mesh."""
    groups = r"replica_groups=(\[4,2\]<=\[8\]|\{\{0,1\},\{2,3\},\{4,5\},\{6,7\}\})[,\s]"
    return found.name == "all-reduce" and bool(re.search(groups, found.rest + " "))


@pytest.mark.parametrize("form", ["fft", "chunked"])
@pytest.mark.parametrize("fsdp, tensor", [(1, 1), (4, 1), (2, 2)])
def test_no_activation_is_sent(fsdp, tensor, form):
    hlo = compiled(form, fsdp, tensor)
    found = list(collectives(hlo, 8))
    assert any(not is_activation(each.shapes) for each in found)  # gradients are
    sent = [
        f"{each.name} of {each.shapes}: {each.rest}"
        for each in found
        if is_activation(each.shapes) and not (tensor > 1 and is_tensor_sum(each))
    ]
    assert not sent, "\n".join(sent)
    if form == "fft":
        transforms = re.findall(r"= \w+\[([\d,]+)\]\S* fft\(", hlo)
        leading = {int(dims.split(",")[0]) for dims in transforms}
        local_examples, local_channels = BATCH * tensor // 8, 16 // tensor
        assert leading == {local_examples, local_channels}  # of inputs, and of kernels


def test_the_check_sees_a_gathered_fft():
    """Left to XLA, an FFT of a sharded batch is gathered: the check can fail."""
    mesh = make_mesh()
    sharding = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    u = jax.ShapeDtypeStruct((BATCH, 16, 22), jnp.float32)
    hlo = jax.jit(jnp.fft.rfft, in_shardings=sharding).lower(u).compile().as_text()
    assert any(is_activation(each.shapes) for each in collectives(hlo, 8))


@pytest.mark.parametrize("platform, transforms", [("cpu", True), ("tpu", False)])
def test_the_form_of_the_convolution_suits_the_mesh_and_not_this_machine(platform, transforms):
    device = jax.sharding.AbstractDevice("of any kind", 1, platform)
    mesh = jax.sharding.AbstractMesh((8, 1, 1), ("data", "fsdp", "tensor"), abstract_device=device)
    layer = BidirectionalSSM(state_size=4, form="auto")
    u = jax.ShapeDtypeStruct((8, 200, 16), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), u)
    with jax.sharding.use_abstract_mesh(mesh):
        assert ("fft" in str(jax.make_jaxpr(layer.apply)(params, u))) == transforms
