"""LAMB is the reference's, with stacked layers too, and the learning rate is the paper's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.parallel.axes import LAYERS, Declared
from diffusion_jax.training.optimizers import OptimizerConfig, learning_rate, make_optimizer
from diffusion_jax.training.state import create_state

CONFIG = OptimizerConfig("lamb", 0.01, warmup_steps=2, cosine_part=1.0, weight_decay=0.1)
CONSTANT = dict(warmup_steps=0, decay="constant")


def lamb_by_hand(params, gradients, config, rates, adapt):
    """LAMB of one variable in float64: Adam, decay, |w| / |update|, as TensorFlow Addons has it."""
    w, m, v = params.astype(np.float64), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = config.b1 * m + (1 - config.b1) * g
        v = config.b2 * v + (1 - config.b2) * g**2
        update = (m / (1 - config.b1**t)) / (np.sqrt(v / (1 - config.b2**t)) + config.eps)
        ratio = 1.0
        if adapt:
            update = update + config.weight_decay * w
            norms = np.linalg.norm(w), np.linalg.norm(update)
            ratio = norms[0] / norms[1] if min(norms) > 0 else 1.0
        w = w - rate * ratio * update
    return w


def boxed(param, layers=0, adapted=True):
    """A parameter declared to be stacked so often."""
    names = (LAYERS,) * layers + (None,) * (param.ndim - layers)
    return Declared(param, names, adapted=adapted)


def declared_by_name(params):
    """Return the declarations of parameters outside stacks, whose biases are not adapted."""
    return {name: boxed(param, adapted=name != "bias") for name, param in params.items()}


def trained(params, gradients, config=CONFIG, total=10, declared=None):
    optimizer = make_optimizer(config, total, declared or declared_by_name(params))
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_lamb_is_the_reference_per_layer_of_a_stack():
    rng = np.random.default_rng(0)
    shapes = {
        ("readout", "kernel"): (4, 3),
        ("readout", "bias"): (3,),
        ("readout", "norm", "scale"): (3,),
        ("blocks_0", "read", "query_kernel"): (2, 4, 3),
        ("blocks_0", "process", "up", "kernel"): (2, 3, 4, 5),
        ("blocks_0", "process", "out_bias"): (2, 3, 5),
    }
    stack_axes = {"blocks_0": 1, "process": 1}

    def tree(draw):
        made = {}
        for path, shape in shapes.items():
            node = made
            for name in path[:-1]:
                node = node.setdefault(name, {})
            node[path[-1]] = draw(shape)
        return made

    def at(tree, path):
        for name in path:
            tree = tree[name]
        return np.asarray(tree)

    params = tree(lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32))
    params["readout"]["kernel"] = jnp.zeros((4, 3))  # a norm of zero has ratio 1
    gradients = [
        tree(lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)) for _ in range(4)
    ]
    rates = [float(learning_rate(CONFIG, 10)(step)) for step in range(4)]
    declared = tree(lambda shape: shape)
    for path in shapes:
        node = declared
        for name in path[:-1]:
            node = node[name]
        layers = sum(stack_axes.get(name, 0) for name in path)
        node[path[-1]] = boxed(at(params, path), layers, not path[-1].endswith(("bias", "scale")))
    ours = trained(params, gradients, declared=declared)
    for path in shapes:
        adapt = not path[-1].endswith(("bias", "scale"))
        axes = sum(stack_axes.get(name, 0) for name in path)
        start = at(params, path)
        for layer in np.ndindex(start.shape[:axes]):
            expected = lamb_by_hand(
                start[layer], [at(g, path)[layer] for g in gradients], CONFIG, rates, adapt
            )
            np.testing.assert_allclose(at(ours, path)[layer], expected, rtol=1e-5, atol=1e-6)


def test_first_part_of_a_cosine():
    """cosine@0.7 ends at 0.206 of the peak; the warm-up starts at 0 and is linear."""
    config = OptimizerConfig("lamb", 2.0, warmup_steps=100, decay="cosine", cosine_part=0.7)
    rate = learning_rate(config, total_steps=1100)
    np.testing.assert_allclose([rate(0), rate(50), rate(100)], [0.0, 1.0, 2.0])
    np.testing.assert_allclose(rate(1100), 2.0 * 0.206, rtol=1e-3)
    constant = learning_rate(OptimizerConfig(learning_rate=3.0, **CONSTANT), total_steps=10)
    assert constant(0) == constant(9) == 3.0


def test_a_rate_warms_up_again_where_fresh_moments_begin():
    """The schedule goes on, times a line from 0; the optimizer counts from there."""
    plain = OptimizerConfig("adamw", 2.0, warmup_steps=10, decay="cosine", cosine_part=0.7)
    again = dataclasses.replace(plain, start_step=40, rewarm_steps=20)
    rate, schedule = learning_rate(again, 100), learning_rate(plain, 100)
    ramp = {40: 0.0, 41: 0.05, 50: 0.5, 60: 1.0, 99: 1.0}
    for step, part in ramp.items():
        np.testing.assert_allclose(rate(step), part * schedule(step), rtol=1e-6)

    params, gradients = {"kernel": jnp.ones(3)}, [{"kernel": jnp.full(3, g)} for g in (1.0, -2.0)]
    fresh = dataclasses.replace(plain, start_step=60, decay="constant")
    constant = dataclasses.replace(fresh, start_step=0, warmup_steps=0)
    np.testing.assert_array_equal(
        trained(params, gradients, fresh, 100)["kernel"],
        trained(params, gradients, constant, 100)["kernel"],
    )
    started = create_state(params, make_optimizer(again, 100, declared_by_name(params)), step=40)
    assert int(started.step) == 40
    counts = [leaf for leaf in jax.tree.leaves(started.opt_state) if leaf.dtype == jnp.int32]
    assert counts and all(count == 0 for count in counts)


def test_clipping_bounds_the_gradient_norm():
    params = {"kernel": jnp.ones((2, 2))}
    gradient = {"kernel": jnp.full((2, 2), 100.0)}
    adam = dict(name="adamw", learning_rate=1.0, b1=0.0, b2=0.0, eps=1.0, weight_decay=0.0)
    adam |= CONSTANT
    plain = trained(params, [gradient], OptimizerConfig(**adam))
    clipped = trained(params, [gradient], OptimizerConfig(**adam, clip_norm=1.0))
    np.testing.assert_allclose(1 - plain["kernel"], 100 / 101, rtol=1e-4)
    np.testing.assert_allclose(1 - clipped["kernel"], 0.5 / 1.5, rtol=1e-4)


def test_adamw_decays_kernels_alone():
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)
    ours = trained(params, [zero], OptimizerConfig("adamw", 0.1, weight_decay=0.5, **CONSTANT))
    np.testing.assert_allclose(ours["kernel"], 0.95)
    np.testing.assert_allclose(ours["bias"], 1.0)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="adam"), "name is 'adam': did you mean adamw"),
        (dict(decay="linear"), "decay is 'linear'"),
        (dict(cosine_part=0.0), "cosine_part is 0.0"),
        (dict(warmup_steps=-1), "warmup_steps is -1"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**changes)
