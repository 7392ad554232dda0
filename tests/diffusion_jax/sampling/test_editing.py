"""Editing on a process whose answer is known: Gaussian data of two correlated numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.denoiser import Condition, Prediction
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.spacings import SPACINGS
from diffusion_jax.errors import UserError
from diffusion_jax.sampling import samplers
from diffusion_jax.sampling.editing import Given, make_edit, slerp, visits
from diffusion_jax.sampling.scan import generate

COVARIANCE = jnp.array([[1.0, 0.8], [0.8, 1.0]])
STEPS = 250


def exact(x, noise, condition, carry):
    """E[x_0 | x_t] of data N(0, COVARIANCE), x (B, 2, 1)."""
    level = noise.gamma[0]
    spread = level * COVARIANCE + (1 - level) * jnp.eye(2)
    matrix = jnp.sqrt(level) * jnp.linalg.solve(spread, COVARIANCE)
    return Prediction(jnp.einsum("ij,bjc->bic", matrix, x), carry)


def inpaint(schedule: str, order: np.ndarray, count: int = 4000, known: float = 1.5) -> np.ndarray:
    """(count,) draws of the first number, the second being `known`."""
    sampling = samplers.Sampling(make_schedule(schedule, steps=1000), "ddpm_small", STEPS)
    given = Given(
        images=jnp.full((count, 2, 1), known),
        redraw=jnp.broadcast_to(jnp.array([[True], [False]]), (count, 2, 1)),
    )

    @jax.jit
    def run(key):
        def noise(draw):
            return jax.random.normal(jax.random.fold_in(key, draw), (count, 2, 1))

        steps = samplers.transitions(sampling, jnp.float32)
        edit = make_edit(given, lambda draw: noise(1000 + draw), order, steps)
        x0, *_ = generate(
            exact,
            noise(9000),
            Condition(),
            (),
            noise,
            sampling,
            "x0",
            None,
            order=order,
            edit=edit,
        )
        return x0

    return np.asarray(run(jax.random.key(0)))[:, 0, 0]


@pytest.mark.parametrize("schedule", ["cosine_simple", "linear_betas"])
def test_resampling_brings_inpainting_to_the_conditional_distribution(schedule):
    """N(0.8 known, 1 - 0.8^2); one pass knows too late what is kept."""
    once, often = (inpaint(schedule, visits(STEPS, resample=r)) for r in (1, 10))
    assert abs(often.mean() - 1.2) < 0.5 * abs(once.mean() - 1.2)
    assert abs(often.mean() - 1.2) < 0.1
    assert abs(often.std() - 0.6) < 0.06


def test_the_order_of_visits():
    assert visits(4).tolist() == [0, 1, 2, 3]
    assert visits(10, noise_level=0.3).tolist() == [7, 8, 9]
    assert visits(7, resample=2, jump=3).tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]
    assert visits(3, resample=9, jump=5).tolist() == [0, 1, 2]  # shorter than a jump
    assert len(visits(100, resample=10)) == 10 + 90 * 10
    assert visits(10, noise_level=0.37).tolist() == [7, 8, 9]  # not noisier than asked
    with pytest.raises(UserError, match=r"noise_level is 0.01: of 20 steps, give 0.05 to 1"):
        visits(20, noise_level=0.01)
    with pytest.raises(UserError, match="resample is 0: it must be at least 1"):
        visits(20, resample=0)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_noise_level_is_the_same_time_under_every_spacing(spacing):
    discrete = make_schedule("linear_betas", steps=1000)
    sampling = samplers.Sampling(discrete, "dpmpp_2m", 50, spacing=spacing)
    times = sampling.times()
    for level in (0.2, 0.6, 1.0):
        first = visits(50, level, times=times)[0]
        assert times[first] <= level
        assert first == 0 or times[first - 1] > level
    one = samplers.Sampling(discrete, "ddim", 1).times()
    assert visits(1, 1.0, times=one).tolist() == [0]
    for level in (0.6, float("nan"), 1.5):  # the only step starts from pure noise
        with pytest.raises(UserError, match=r"noise_level is .*: of 1 steps, give 1 to 1"):
            visits(1, level, times=one)


def test_the_lowest_noise_level_that_is_named_works():
    for steps in (3, 7, 20, 300, 1000):
        with pytest.raises(UserError) as refused:
            visits(steps, 0.0)
        lowest = float(str(refused.value).split("give ")[1].split(" to")[0])
        assert visits(steps, lowest).tolist() == [steps - 1]


def test_a_multistep_sampler_starts_anew_where_the_order_goes_back():
    """With nothing to keep and a jump to the same noise, it is two runs one after the other."""
    sampling = samplers.Sampling(make_schedule("cosine_simple"), "dpmpp_2m", 3)
    x = jnp.ones((1, 2, 1))

    def run(order, edit=None):
        arguments = (exact, x, Condition(), (), None, sampling, "x0", None)
        return generate(*arguments, order=order, edit=edit)[0]

    def restart(now, visit, step):
        return jnp.where(visit == 2, x, now)

    twice = run(np.array([0, 1, 2, 0, 1, 2]), restart)
    np.testing.assert_array_equal(twice, run(np.arange(3)))


def test_slerp_keeps_ends_and_norm():
    first, second = (jax.random.normal(jax.random.key(i), (3, 8, 8, 1)) for i in range(2))
    for fraction, expected in ((0.0, first), (1.0, second)):
        found = slerp(first, second, jnp.full((3,), fraction))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    middle = slerp(first, second, jnp.full((3,), 0.5))
    assert abs(float(jnp.std(middle)) - float(jnp.std(first))) < 0.1
    assert float(jnp.std((first + second) / 2)) < 0.8  # a straight line is greyer than any noise
