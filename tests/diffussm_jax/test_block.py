"""The block computes the paper's equations, read literally."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion_jax.errors import UserError
from diffussm_jax import BidirectionalSSM, DiffuSSMBlock


def make(expansion=2, condition=True, dim=8, count=6, **options):
    """(block, params moved off their start, x, condition)."""
    block = DiffuSSMBlock(expansion, state_size=4, **options)
    x = jax.random.normal(jax.random.key(0), (2, count, dim))
    c = jax.random.normal(jax.random.key(1), (2, 5)) if condition else None
    params = nn.unbox(jax.jit(block.init)(jax.random.key(2), x, c))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return block, params, jax.tree.unflatten(tree, moved), x, c


def act(x):
    return np.asarray(jax.nn.gelu(jnp.asarray(x)))


def literally(params, x, c, expansion, ssm):
    """The equations with loops over j and k, for one example."""
    w = jax.tree.map(np.asarray, params)

    def dense(name, value):
        return value @ w[name]["kernel"] + w[name]["bias"]

    count, dim = x.shape
    shift, scale, gate = np.split(dense("modulation", c / (1 + np.exp(-c))), 3)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    i = normal * (1 + scale) + shift
    u = np.zeros((count * expansion, *w["up_bias"].shape[1:]), np.float32)
    for j in range(count):
        for k in range(expansion):
            inner = act(dense("w0", i[j]))
            up = np.tensordot(inner, w["up_kernel"][k], axes=1)
            u[j * expansion + k] = act(up + w["up_bias"][k])
    y = np.asarray(ssm.apply({"params": params["ssm"]}, jnp.asarray(u)[None])[0])
    y = y.reshape(-1, 2 * dim)  # forward and backward concatenated
    w_down = w["down_kernel"].reshape(expansion, 2 * dim, -1)
    out = np.zeros_like(x)
    for j in range(count):
        parts = [
            act(y[j * expansion + k] @ w_down[k] + w["down_bias"][k]) for k in range(expansion)
        ]
        fused = act(dense("w2", np.concatenate(parts))) * act(dense("w1", i[j]))
        out[j] = x[j] + gate * dense("w3", fused)
    return out


@pytest.mark.parametrize("reading", ["flops", "parameters"])
@pytest.mark.parametrize("expansion", [1, 2, 4])
def test_the_equations_of_the_paper(expansion, reading):
    block, _, params, x, c = make(expansion, reading=reading)
    ours = jax.jit(block.apply)({"params": params}, x, c)
    ssm = BidirectionalSSM(state_size=4)
    for example in range(2):
        expected = literally(params, np.asarray(x[example]), np.asarray(c[example]), expansion, ssm)
        np.testing.assert_allclose(ours[example], expected, atol=2e-5)


def test_a_new_block_is_the_identity():
    block, params, _, x, c = make()
    np.testing.assert_array_equal(jax.jit(block.apply)({"params": params}, x, c), x)


@pytest.mark.parametrize("expansion", [1, 2, 4])
@pytest.mark.parametrize("reading", ["flops", "parameters"])
def test_dense_parameters_of_the_two_readings(expansion, reading):
    squares = {"flops": 13 + expansion, "parameters": 9 + 2 * expansion}[reading]
    _, params, _, _, _ = make(expansion, condition=False, dim=16, reading=reading)
    kernels = [params[name]["kernel"] for name in ("w0", "w1", "w2", "w3")]
    kernels += [params["up_kernel"], params["down_kernel"]]
    assert sum(kernel.size for kernel in kernels) == squares * 16**2


def test_every_position_sees_every_other():
    block, _, params, x, c = make(count=5)
    jacobian = jax.jit(jax.jacobian(lambda x: block.apply({"params": params}, x, c)[0, :, 0]))(x)
    assert (np.abs(np.asarray(jacobian[:, 0])).max(axis=-1) > 0).all()


def test_forms_and_compute_dtypes_agree():
    block, _, params, x, c = make(count=100)
    expected = jax.jit(block.apply)({"params": params}, x, c)
    chunked = DiffuSSMBlock(2, state_size=4, form="chunked")
    ours = jax.jit(chunked.apply)({"params": params}, x, c)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    half = DiffuSSMBlock(2, state_size=4, dtype=jnp.bfloat16)
    error = jnp.abs(jax.jit(half.apply)({"params": params}, x, c) - expected).max()
    assert error < 0.05 * jnp.abs(expected).max()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: make(expansion=3), "expansion is 3: it must divide 2 D = 16"),
        (lambda: make(reading="flop"), "reading is 'flop': did you mean flops"),
        (lambda: BidirectionalSSM(state_size=5), "state_size is 5: conjugate pairs"),
        (lambda: BidirectionalSSM(form="ftt"), "form is 'ftt': did you mean fft"),
        (lambda: BidirectionalSSM(start="linear"), "start is 'linear': did you mean lin"),
    ],
)
def test_what_cannot_work_is_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
