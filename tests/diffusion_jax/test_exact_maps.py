"""Every sampler against the exact answer, for data from mixtures of Gaussians in 1-D.

The best denoiser of a mixture is known in closed form. With it the deterministic samplers must
follow the probability flow, which is integrated here to 1e-9 by another program, and the others
must draw from the mixture.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import norm

from diffusion_jax.denoiser import Condition, Prediction
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.sampling.samplers import Sampling, transitions
from diffusion_jax.sampling.scan import generate


class Mixture(NamedTuple):
    """Gaussians in 1-D."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]


TWO = Mixture((0.7, 0.3), (-0.65, 0.44), (0.15, 0.13))
OTHERS = {
    "three modes": Mixture((0.2, 0.5, 0.3), (-0.8, 0.1, 0.7), (0.1, 0.05, 0.12)),
    "narrow modes": Mixture((0.5, 0.5), (-0.5, 0.5), (0.02, 0.02)),
    "one narrow mode": Mixture((1.0,), (0.3,), (0.02,)),
    "off centre": Mixture((1.0,), (0.6,), (0.3,)),
}
DISCRETE = make_schedule("linear_betas", steps=1000)
SHORT = make_schedule("linear_betas", steps=100)
COSINE_DISCRETE = make_schedule("cosine_betas", steps=1000)
COSINE = make_schedule("cosine_simple")
STEPS = (5, 10, 15, 20, 30, 50, 100, 250)
X = norm.ppf((np.arange(2001) + 0.5) / 2001)  # standard normal


def expected_x0(mixture, x, alpha, variance, numpy):
    """E[x_0 | x_t = x], x (N,), where x_t = alpha x_0 + noise of this variance."""
    prior, means, deviations = np.array(mixture)[:, None]  # (1, modes) each
    x = x[:, None]
    total = (alpha * deviations) ** 2 + variance
    log_weights = np.log(prior) - numpy.log(total) / 2 - (x - alpha * means) ** 2 / total / 2
    weights = numpy.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    means = means + alpha * deviations**2 / total * (x - alpha * means)
    return (weights * means).sum(axis=1) / weights.sum(axis=1)


def denoise(mixture, x, noise, condition, carry):
    """E[x_0 | x_t] of the mixture; as learned variances, those of the posterior."""
    level = noise.alpha[0][None, None], noise.sigma_squared[0][None, None]
    x0 = expected_x0(mixture, x[:, 0], *level, jnp)[:, None]
    return Prediction(jnp.concatenate([x0, -jnp.ones_like(x0)], axis=1), carry)


def run(sampler, steps, schedule, spacing="auto", x=X, noise=None, mixture=TWO) -> np.ndarray:
    """(N,) samples in float64 from the start noise x."""
    sampling = Sampling(schedule, sampler, steps, spacing=spacing)
    exact = functools.partial(denoise, mixture)
    with jax.enable_x64(True):
        sample = jax.jit(
            lambda x: generate(exact, x, Condition(), (), noise, sampling, "x0", None)[0]
        )
        return np.asarray(sample(jnp.asarray(x)[:, None]))[:, 0]


@functools.cache
def exact_map(schedule, mixture) -> np.ndarray:
    """(N,) where the probability flow takes X, from the highest noise level of the schedule."""
    with jax.enable_x64(True):
        first = transitions(Sampling(schedule, "ddim", 1), jnp.float64).now
        alpha, variance = float(first.alpha[0]), float(first.sigma_squared[0])

    def slope(log_noise, y):  # of y = x / alpha in log(sigma / alpha)
        noise = np.exp(log_noise)
        alpha = 1 / np.sqrt(1 + noise**2)
        return y - expected_x0(mixture, y * alpha, alpha, (noise * alpha) ** 2, np)

    ends = np.log(np.sqrt(variance) / alpha), np.log(1e-5)
    return solve_ivp(slope, ends, X / alpha, method="DOP853", rtol=1e-9, atol=1e-10).y[:, -1]


@functools.cache
def error(sampler, steps, schedule, spacing="auto", mixture=TWO) -> float:
    """Root-mean-square distance from the exact map."""
    apart = run(sampler, steps, schedule, spacing, mixture=mixture) - exact_map(schedule, mixture)
    return float(np.sqrt(np.mean(apart**2)))


@pytest.mark.parametrize("steps", STEPS)
def test_second_order_samplers_are_nearer_to_the_flow_than_ddim_on_a_discrete_schedule(steps):
    ddim = error("ddim", steps, DISCRETE)
    assert error("heun", steps, DISCRETE) < 0.8 * ddim
    assert error("dpmpp_2m", steps, DISCRETE) < 0.4 * ddim


def test_few_steps_of_dpmpp_2m_are_better_spaced_than_by_timesteps_like_diffusers():
    """The errors of 2M on timesteps linspace(0, 999, n + 1)[1:], as measured with diffusers."""
    for steps, theirs in {10: 0.102, 15: 0.061, 20: 0.048, 30: 0.038}.items():
        assert error("dpmpp_2m", steps, DISCRETE) < theirs / 2
        assert error("dpmpp_2m", steps, DISCRETE, "even") > theirs  # even steps overshoot


@pytest.mark.parametrize("discrete", [SHORT, COSINE_DISCRETE], ids=["short", "cosine"])
@pytest.mark.parametrize("mixture", OTHERS.values(), ids=OTHERS)
def test_dpmpp_2m_is_nearer_to_the_flow_than_ddim_for_other_data_and_discrete_schedules(
    mixture, discrete
):
    """Its last step must begin where the noise is smaller than a mode, or the mode collapses."""
    for steps in (5, 10):
        ddim = error("ddim", steps, discrete, mixture=mixture)
        assert error("dpmpp_2m", steps, discrete, mixture=mixture) < 0.97 * ddim


def test_heun_is_as_near_to_the_flow_as_diffusers():
    """Its error on the same timesteps is 0.0042 in 50 steps and 0.00021 in 250 (n = 2001)."""
    assert error("heun", 50, DISCRETE) < 0.0030
    assert error("heun", 250, DISCRETE) < 0.00022


@pytest.mark.parametrize("sampler, last", [("ddim", 0.012), ("dpmpp_2m", 3e-4), ("heun", 3e-4)])
def test_more_steps_are_nearer_to_the_flow(sampler, last):
    errors = [error(sampler, steps, DISCRETE) for steps in STEPS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < last


@pytest.mark.parametrize(
    "schedule",
    [COSINE, make_schedule("linear"), make_schedule("sigmoid", start=-3, end=3, tau=0.9)],
    ids=["cosine_simple", "linear", "sigmoid"],
)
def test_second_order_samplers_are_nearer_to_the_flow_on_continuous_schedules(schedule):
    """The first gamma of linear and sigmoid is 1e-9, where Heun in sigma / alpha would diverge."""
    for steps in (5, 20, 250):
        ddim = error("ddim", steps, schedule)
        assert ddim < 1.1 / steps**0.75
        assert error("heun", steps, schedule) < 0.9 * ddim
        assert error("dpmpp_2m", steps, schedule) < ddim


@pytest.mark.parametrize("schedule", [DISCRETE, COSINE], ids=["discrete", "cosine_simple"])
@pytest.mark.parametrize("spacing", ["power", "log_snr", "karras"])
def test_named_spacings_lead_to_the_flow(spacing, schedule):
    for steps, highest in ((10, 0.11), (30, 0.015), (100, 0.0016)):
        assert error("dpmpp_2m", steps, schedule, spacing) < highest


@pytest.mark.parametrize(
    "sampler, schedule",
    [
        pytest.param("ddpm", DISCRETE, id="ddpm-discrete"),
        pytest.param("ddpm_small", DISCRETE, id="ddpm_small-discrete"),
        pytest.param("ddpm_learned", DISCRETE, id="ddpm_learned-discrete"),
        pytest.param("ddpm", COSINE, id="ddpm-continuous"),
        pytest.param("ddpm_small", COSINE, id="ddpm_small-continuous"),
    ],
)
def test_ancestral_samplers_draw_from_the_mixture(sampler, schedule):
    """The Wasserstein-1 distance falls as 1 / steps, to that of so many draws of the mixture."""
    count = 20001
    places = (np.arange(count) + 0.5) / count
    values = np.linspace(-2, 2, 100001)
    prior, means, deviations = np.array(TWO)
    heights = (prior * norm.cdf((values[:, None] - means) / deviations)).sum(axis=1)
    quantiles = np.interp(places, heights, values)
    x = np.random.default_rng(0).permutation(norm.ppf(places))

    def noise(visit):
        return jax.random.normal(jax.random.fold_in(jax.random.key(0), visit), (count, 1))

    for steps in (5, 20, 50, 250):
        samples = np.sort(run(sampler, steps, schedule, x=x, noise=noise))
        assert np.abs(samples - quantiles).mean() < 1.8 / steps + 0.006


@pytest.mark.parametrize("schedule", [DISCRETE, COSINE], ids=["discrete", "cosine_simple"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddpm_small", "ddim", "dpmpp_2m", "heun"])
def test_one_step_gives_the_mean_of_the_data_and_not_the_noise(sampler, schedule):
    samples = run(sampler, 1, schedule, noise=lambda visit: jnp.zeros((len(X), 1)))
    assert np.abs(samples - np.dot(TWO.weights, TWO.means)).max() < 0.02
