"""What is shown of a DiffuSSM is what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffussm_jax import BidirectionalSSM, DiffuSSM, Images
from diffussm_jax.inspection import kernels, receptive_field, time_scales

SIDES = (6, 4)


def make(expansion: int):
    """(model, params, run): a new network whose output is not zero, and its passes."""
    model = DiffuSSM(Images(*SIDES, 2, patch_size=1), dim=8, layers=2, expansion=expansion)
    x = jnp.zeros((3, *SIDES, 2))
    noise = NoiseLevel(jnp.full((3,), 0.5), jnp.full((3,), 300))

    def run(params, x):
        return model.apply({"params": params}, x, noise, Condition(), ()).output[..., :2]

    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), x, noise, Condition(), ()))["params"]
    kernel = params["out"]["kernel"]
    params["out"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return model, params, run


def test_kernels_are_what_an_impulse_gives():
    model, params, _ = make(expansion=2)
    length, middle = model.geometry.num_tokens, 9
    of_layer = jax.tree.map(lambda leaf: leaf[1], params["blocks"]["ssm"])
    impulse = jnp.zeros((1, length, 8)).at[:, middle].set(1.0)
    layer = BidirectionalSSM(model.state_size)
    response = np.array(jax.jit(layer.apply)({"params": of_layer}, impulse)[0])
    response[middle] -= of_layer["skip"]
    forward, backward = jax.jit(kernels, static_argnums=(1, 2))(params, 1, length)
    tolerance = 1e-5 * float(jnp.abs(forward).max())
    np.testing.assert_allclose(
        response[middle:, 0].T, forward[:, : length - middle], atol=tolerance
    )
    np.testing.assert_allclose(response[middle::-1, 1].T, backward[:, : middle + 1], atol=tolerance)


def test_time_scales_of_known_states():
    """Re A = -1/2 in a new network, 1 / |dt Re A| = 2 / dt; and dt = 1/4, Re A = -1/8 gives 32."""
    _, params, _ = make(expansion=2)
    ssm = params["blocks"]["ssm"]
    scales = time_scales(params)
    assert scales.shape == (2, 2, 8, 32)
    expected = 2 / jnp.exp(ssm["backward_log_dt"])
    np.testing.assert_allclose(scales[:, 1, :, 5], expected, rtol=1e-5)
    ssm["forward_log_dt"] = jnp.full((2, 8), np.log(1 / 4))
    ssm["forward_log_decay"] = jnp.full((2, 8, 32), np.log(1 / 8))
    np.testing.assert_allclose(time_scales(params)[:, 0], 32, rtol=1e-5)


@pytest.mark.parametrize("expansion", [1, 2])
def test_a_new_network_sees_one_position_alone(expansion):
    """Its blocks are the identity: the gradient reaches the `expansion` tokens of the position."""
    _, params, run = make(expansion)
    x = jax.random.normal(jax.random.key(2), (3, *SIDES, 2))

    def reach(params):
        place = slice(3, 4), slice(2, 3)
        output = lambda x: run(params, x)  # noqa: E731
        return receptive_field(output, x, jax.random.key(3), *place)

    field = jax.jit(reach)(params)
    assert field.shape == SIDES
    seen = [(3, 2 + i) for i in range(expansion)]
    assert [tuple(place) for place in np.argwhere(field)] == seen
    np.testing.assert_allclose(field.sum(), 1, rtol=1e-6)
    params["blocks"]["modulation"]["kernel"] += 0.1  # opens the blocks
    params["blocks"]["modulation"]["bias"] += 0.1
    assert (jax.jit(reach)(params) > 0).all()
