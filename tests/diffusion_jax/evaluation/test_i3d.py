"""I3D is the published network: its layout, and its arithmetic against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from golden import relative_error
from numpy_i3d import BLOCKS, Network, random_tensors, tensor_shapes

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.i3d import I3D, MIXED, Mixed, unit
from diffusion_jax.evaluation.i3d_weights import params_from_pytorch, pytorch_shapes

TOLERANCE = 1e-5


@functools.cache
def weights():
    """(network in NumPy, our parameters) of the same random tensors."""
    tensors = random_tensors()
    return Network(tensors), params_from_pytorch(tensors)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def test_names_and_shapes_are_those_of_pytorch_i3d():
    assert pytorch_shapes() == tensor_shapes()
    # As torch counts them: running statistics are no parameters.
    learned = [np.prod(s) for name, s in tensor_shapes().items() if "running" not in name]
    assert sum(learned) == 12_697_264
    # Each of the 7,280 units of a norm has its scale in the kernel.
    ours = sum(leaf.size for leaf in jax.tree.leaves(weights()[1]))
    assert ours == 12_689_984 == sum(learned) - 7_280
    # The parameters name themselves: a wrong width would otherwise hide behind a right sum.
    assert {name: channels for name, (_, channels) in BLOCKS.items()} == MIXED


@pytest.mark.parametrize("frames, pooled", [(9, 2), (16, 2), (17, 3), (64, 8)])
def test_the_head_meets_7_by_7_positions(frames, pooled):
    """So that the mean over the map is the published pool of 2 x 7 x 7."""

    def run(params, videos):
        return I3D().apply({"params": params}, videos, capture_intermediates=True)

    videos = jax.ShapeDtypeStruct((2, frames, 224, 224, 3), jnp.float32)
    logits, state = jax.eval_shape(run, weights()[1], videos)
    last = state["intermediates"]["Mixed_5c"]["__call__"][0]
    assert last.shape == (2, pooled, 7, 7, 1024)
    assert (logits.shape, logits.dtype) == ((2, 400), jnp.float32)


class Stem(nn.Module):
    @nn.compact
    def __call__(self, x):
        return unit(x, 64, 7, "Conv3d_1a_7x7", stride=2)


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 9), (3, 10, 11)])
def test_the_stem_pads_even_and_odd_sizes_as_tensorflow_does(size):
    theirs, params = weights()
    video = noise(*size, 3)
    ours = Stem().apply({"params": params}, video[None])[0]
    assert relative_error(ours, theirs.unit("Conv3d_1a_7x7", video, stride=2)) < TOLERANCE


@pytest.mark.parametrize("size", [(2, 4, 4), (3, 5, 2)])
def test_a_block_is_that_of_numpy(size):
    theirs, params = weights()
    x = np.abs(noise(*size, 192))
    ours = Mixed(MIXED["Mixed_3b"]).apply({"params": params["Mixed_3b"]}, x[None])[0]
    assert relative_error(ours, theirs.block("Mixed_3b", x)) < TOLERANCE


@pytest.mark.parametrize("size", [(16, 32, 32), (11, 37, 45)])
def test_the_network_is_that_of_numpy(size):
    theirs, params = weights()
    video = noise(*size, 3)
    ours = jax.jit(I3D().apply)({"params": params}, video[None])[0]
    assert relative_error(ours, theirs.logits(video)) < TOLERANCE


@pytest.mark.parametrize(
    "videos, message",
    [
        (jnp.zeros((1, 16, 32, 32, 3), jnp.uint8), r"uint8: give floats in \[-1, 1\]"),
        (jnp.zeros((1, 8, 32, 32, 3)), "number of frames is 8: it must be at least 9"),
        (jnp.zeros((1, 16, 32, 32, 2)), r"shape \(1, 16, 32, 32, 2\): give \(B, T, 224, 224, 3\)"),
        (jnp.zeros((16, 32, 32, 3)), r"shape \(16, 32, 32, 3\)"),
    ],
)
def test_what_is_no_video_is_refused(videos, message):
    with pytest.raises(UserError, match=message):
        I3D().apply({"params": weights()[1]}, videos)
