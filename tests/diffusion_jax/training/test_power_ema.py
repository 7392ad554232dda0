"""Averages chosen after training: the paper's widths, exact sums of profiles, small errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.training.power_ema import (
    WIDEST,
    Profile,
    gamma_of,
    inner_products,
    update_rate,
    weights,
)

STEPS, EVERY = 4096, 128
STORED = [
    Profile(gamma_of(width), step)
    for step in range(EVERY, STEPS + 1, EVERY)
    for width in (0.05, 0.10)
]


def profile(of: Profile, steps: int = STEPS) -> np.ndarray:
    """(steps,) what each update weighs: the integrals of the profile from one to the next."""
    edges = np.minimum(np.arange(steps + 1) / of.step, 1) ** (of.gamma + 1)
    return np.diff(edges)


def test_widths_are_those_of_the_paper():
    """It prints gamma 16.97 and 6.94 for 5% and 10%; the variance is that of Beta(gamma + 1, 1)."""
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert gamma_of(WIDEST) == pytest.approx(0, abs=1e-6)
    for width in (1e-3, 0.03, 0.25):
        gamma = gamma_of(width)
        assert width**2 == pytest.approx((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)), rel=1e-9)
    for width in (0.0, -0.1, 0.3):
        with pytest.raises(UserError, match=rf"sigma_rel is {width}: it must be above 0 and"):
            gamma_of(width)


@pytest.mark.parametrize("width", [0.05, 0.25])
def test_updates_make_the_profile(width):
    """Each parameter weighs the integral of the profile over its step, in a float32 recursion."""
    gamma, steps = gamma_of(width), 300

    def update(average, step):
        rate = update_rate(gamma, step)
        return (1 - rate) * average + rate * jax.nn.one_hot(step - 1, steps), None

    found, _ = jax.lax.scan(update, jnp.ones(steps), jnp.arange(1, steps + 1))
    np.testing.assert_allclose(found, profile(Profile(gamma, steps), steps), atol=1e-6)
    late = update_rate(gamma, jnp.int32(10**6))
    assert float(late) == pytest.approx(-np.expm1((gamma + 1) * np.log1p(-1e-6)), rel=1e-6)


def test_inner_products_are_integrals_of_the_profiles():
    pairs = [Profile(gamma_of(0.05), 700), Profile(gamma_of(0.2), 900), Profile(0.0, 900)]
    tau = (np.arange(90_000) + 0.5) / 100

    def density(of):
        inside = tau <= of.step
        return np.where(inside, (of.gamma + 1) * (tau / of.step) ** of.gamma / of.step, 0)

    densities = np.stack([density(of) for of in pairs])
    np.testing.assert_allclose(
        inner_products(pairs, pairs), densities @ densities.T / 100, rtol=1e-4
    )


def test_a_stored_average_is_given_back():
    for index in (0, 31, 62, 63):
        wanted = STORED[index]
        found, missed = weights(STORED, wanted)
        made = found @ np.stack([profile(of) for of in STORED])
        np.testing.assert_allclose(made, profile(wanted), atol=1e-6 * profile(wanted).max())
        assert missed < 1e-6


@pytest.mark.parametrize(
    "width, most, most_missed",
    [(0.03, 2e-3, 0.012), (0.075, 1e-4, 1e-3), (0.15, 1e-4, 3e-3), (0.2, 1e-3, 7e-3)],
)
def test_other_widths_are_near_those_tracked_directly(width, most, most_missed):
    """A random walk far from 0: the error, in parts of how far the average is from its end."""
    rng = np.random.default_rng(0)
    walk = 100 + np.cumsum(rng.normal(size=(STEPS, 50)), axis=0)
    wanted = Profile(gamma_of(width), STEPS)
    found, missed = weights(STORED, wanted)
    made, tracked = found @ np.stack([profile(of) for of in STORED]), profile(wanted)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    error = np.linalg.norm((made - tracked) @ walk)
    assert error < most * np.linalg.norm(walk[-1] - tracked @ walk)
    assert missed < most_missed
