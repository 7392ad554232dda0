"""Losses: what the golden cases do not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.denoiser import Condition, Prediction
from diffusion_jax.diffusion import objectives, process
from diffusion_jax.diffusion.schedules import make_schedule, noise_level
from diffusion_jax.errors import UserError

SCHEDULE = make_schedule("linear")
X0 = jnp.linspace(-1, 1, 24).reshape(4, 6)


class Probe:
    """Output: parameter * x_t + carry. Next carry: carry + parameter * label."""

    def initial_carry(self, batch_size):
        return jnp.zeros((batch_size, 1))

    def apply(self, variables, x_t, noise, condition, carry, *, train, rngs):
        assert train
        output = variables["params"] * x_t + carry
        return Prediction(output, carry + variables["params"] * condition.labels[:, None])


def draws(**changes):
    made = objectives.draw(jax.random.split(jax.random.key(0), 4), (6,))
    return made._replace(**changes)


def loss(params=1.0, draw=None, labels=(1.0, 2.0, 3.0, 4.0), **changes):
    objective = objectives.Objective(SCHEDULE, **changes)
    condition = Condition(labels=jnp.array(labels))
    return objectives.loss(Probe(), params, objective, X0, condition, draw or draws())


def test_v_loss_is_the_error_of_the_velocity():
    """For an x0 prediction v - v^ = (x0^ - x0) / sqrt(1 - gamma)."""
    draw = draws(t=jnp.full((4,), 0.25))
    options = dict(prediction="x0", self_conditioning="none", clip_x0=False, draw=draw)
    ratio = loss(loss="v", **options) / loss(loss="x0", **options)
    np.testing.assert_allclose(ratio, 1 / 0.25, rtol=1e-5)


def test_perfect_predictions_cost_nothing():
    draw = draws()
    noise = noise_level(SCHEDULE, draw.t)
    x_t = process.diffuse(X0, draw.eps, noise)
    answers = {"eps": draw.eps, "x0": X0, "v": process.velocity(X0, draw.eps, noise)}
    for prediction, answer in answers.items():
        x0, eps = process.to_x0_eps(answer, x_t, noise, prediction, None, consistent_eps=False)
        np.testing.assert_allclose(x0, X0, atol=1e-4)
        np.testing.assert_allclose(eps, draw.eps, atol=1e-4)


def test_the_carry_pass_gets_no_gradient():
    """With a carry of params * label, a gradient through it would be there at x_t = 0."""
    with_carry = jax.grad(lambda p: loss(p, draws(keep_carry=jnp.ones(4))))(0.5)
    x_t = process.diffuse(X0, draws().eps, noise_level(SCHEDULE, draws().t))
    carry = 0.5 * jnp.arange(1.0, 5.0)[:, None]
    expected = jnp.mean(-2 * (draws().eps - (0.5 * x_t + carry)) * x_t)
    np.testing.assert_allclose(with_carry, expected, rtol=1e-5)


def test_carry_is_kept_per_example_where_its_draw_exceeds_one_minus_the_rate():
    kept = draws(keep_carry=jnp.array([0.05, 0.15, 0.05, 0.15]))
    ours = loss(draw=kept, self_conditioning_rate=0.9)
    half = loss(draw=draws(keep_carry=jnp.ones(4)), labels=(0.0, 2.0, 0.0, 4.0))
    np.testing.assert_allclose(ours, half, rtol=1e-6)


def test_first_k_carries_the_first_examples_only():
    ours = loss(self_conditioning="first", self_conditioning_rate=0.5)
    masked = loss(draw=draws(keep_carry=jnp.array([1.0, 1.0, 0.0, 0.0])))
    np.testing.assert_allclose(ours, masked, rtol=1e-6)


def test_labels_are_dropped_separately_in_the_two_passes():
    """A label of 0 in the carry pass leaves a carry of -1, the null label, times the parameter."""
    dropped = jnp.stack([jnp.array([0.0, 1.0, 0.0, 1.0]), jnp.ones(4)])
    draw = draws(keep_carry=jnp.ones(4), keep_label=dropped)
    ours = loss(draw=draw, label_dropout=0.1)
    by_hand = loss(draw=draws(keep_carry=jnp.ones(4)), labels=(-1.0, 2.0, -1.0, 4.0))
    np.testing.assert_allclose(ours, by_hand, rtol=1e-6)


def test_an_example_draws_the_same_wherever_it_stands():
    keys = jax.random.split(jax.random.key(0), 4)
    whole, part = objectives.draw(keys, (6,)), objectives.draw(keys[2:], (6,))
    np.testing.assert_array_equal(whole.eps[2:], part.eps)
    np.testing.assert_array_equal(whole.keep_label[:, 2:], part.keep_label)


def test_draws_are_uniform_and_normal():
    made = objectives.draw(jax.random.split(jax.random.key(0), 4000), (3,))
    for uniform in (made.t, made.keep_carry, *made.keep_label):
        assert abs(uniform.mean() - 0.5) < 0.03
        assert abs(uniform.std() - 12**-0.5) < 0.02
    assert abs(made.eps.mean()) < 0.03
    assert abs(made.eps.std() - 1) < 0.03
    assert abs(np.corrcoef(made.t, made.eps[:, 0])[0, 1]) < 0.05


def test_input_scale_and_range():
    images = np.array([[[[0], [255]]]], np.uint8)
    scaled = process.to_model_range(jnp.asarray(images), 0.5)
    np.testing.assert_allclose(scaled.reshape(-1), [-0.5, 0.5])
    np.testing.assert_array_equal(process.to_uint8(scaled, 0.5), images)
    normal = process.unit_variance(X0 * jnp.array([[1.0], [2.0], [3.0], [4.0]]))
    np.testing.assert_allclose(normal.std(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(prediction="noise"), "prediction is 'noise'"),
        (dict(self_conditioning="masking"), "did you mean mask"),
        (dict(label_dropout=-0.1), "label_dropout is -0.1: it is a rate"),
        (dict(input_scale=0.0), "input_scale is 0.0: it must be above 0"),
        (dict(variance="learned"), "variance is 'learned': it needs a discrete schedule"),
        (dict(variance="learnt"), "variance is 'learnt': did you mean learned"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        objectives.Objective(SCHEDULE, **changes)
