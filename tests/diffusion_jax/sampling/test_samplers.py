"""Samplers on a process whose answer is known: data N(0, s^2), denoised exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.errors import UserError
from diffusion_jax.sampling import samplers
from diffusion_jax.sampling.guidance import guide
from diffusion_jax.sampling.scan import generate

S = 0.5
SCHEDULE = make_schedule("cosine_simple")


DISCRETE = make_schedule("linear_betas", steps=1000)


def exact(x, noise, condition, carry):
    """E[eps | x_t] of data N(0, S^2), and the posterior's variance; the carry counts the passes."""
    gamma = noise.gamma[:, None]
    eps = x * jnp.sqrt(1 - gamma) / (gamma * S**2 + 1 - gamma)
    return Prediction(jnp.concatenate([eps, -jnp.ones_like(eps)], axis=-1), carry + 1)


def run(sampler: str, steps: int, x, noise=None, schedule=SCHEDULE, **kwargs):
    sampling = samplers.Sampling(schedule, sampler, steps, **kwargs)
    carry = jnp.zeros(x.shape[:1])
    watch = lambda one: one.carry_next  # noqa: E731
    return jax.jit(
        lambda x: generate(exact, x, Condition(), carry, noise, sampling, "eps", None, watch=watch)
    )(x)


@pytest.mark.parametrize(
    "schedule, heun_steps, multistep_steps",
    [
        pytest.param(SCHEDULE, 20, 80, id="continuous"),
        # The first 50 steps of the discrete schedule are as far apart in log SNR as the next 350.
        pytest.param(DISCRETE, 80, 40, id="discrete"),
    ],
)
def test_deterministic_samplers_follow_the_probability_flow(schedule, heun_steps, multistep_steps):
    """Its solution is x_0 = S x_1. Second-order solvers get there in fewer passes."""
    x = jnp.linspace(-2, 2, 9)[:, None]

    def error(sampler, steps):
        return float(jnp.abs(run(sampler, steps, x, schedule=schedule)[0] - S * x).max())

    assert error("ddim", 1000) < 4e-3
    for sampler, steps in (("heun", heun_steps), ("dpmpp_2m", multistep_steps)):
        assert error(sampler, steps) < error("ddim", steps) / 3
        # Doubling the steps of a first-order solver would only halve its error.
        assert error(sampler, 2 * steps) < error(sampler, steps) / 2.5


@pytest.mark.parametrize(
    "sampler, schedule",
    [
        ("ddpm", SCHEDULE),
        ("ddpm_small", SCHEDULE),
        ("ddpm", DISCRETE),
        ("ddpm_small", DISCRETE),
        ("ddpm_learned", DISCRETE),
    ],
)
def test_ancestral_sampling_reaches_the_data_distribution(sampler, schedule):
    count, steps = 4000, 250
    key = jax.random.key(0)
    x = jax.random.normal(key, (count, 1))
    noise = lambda k: jax.random.normal(jax.random.fold_in(key, k), (count, 1))  # noqa: E731
    samples, *_ = run(sampler, steps, x, noise, schedule)
    # The returned x0 is a mean, not a draw; at the last step that costs nothing to see here.
    assert abs(float(samples.std()) - S) < 0.03
    assert abs(float(samples.mean())) < 0.03


def test_carry_is_handed_on_decayed_or_never():
    x = jnp.ones((2, 1))
    _, _, carries = run("ddim", 4, x)
    np.testing.assert_allclose(carries[:, 0], [1, 2, 3, 4])
    _, _, carries = run("ddim", 4, x, carry_decay=1.0)
    np.testing.assert_allclose(carries[:, 0], 0)
    _, _, carries = run("ddim", 3, x, carry_decay=0.5)
    np.testing.assert_allclose(carries[:, 0], [0.5, 1.0, 1.5])


def test_heun_evaluates_twice_a_step_but_once_in_the_last():
    _, _, carries = run("heun", 3, jnp.ones((1, 1)))
    np.testing.assert_allclose(carries[:, 0], [2, 4, 5])


def test_time_shift_moves_the_next_time_only():
    plain, shifted = (
        samplers.transitions(samplers.Sampling(SCHEDULE, steps=4, time_shift=shift), jnp.float32)
        for shift in (0.0, 1.0)
    )
    np.testing.assert_array_equal(plain.now.gamma, shifted.now.gamma)
    np.testing.assert_array_equal(plain.next.gamma[1:], shifted.next.gamma[:-1])
    assert shifted.next.gamma[-1] == plain.next.gamma[-1]  # time does not go below 0


def labelled(x, noise, condition, carry):
    return Prediction(x + condition.labels[:, None].astype(x.dtype), carry + condition.labels)


def test_guidance_extrapolates_and_keeps_the_conditional_carry():
    x, carry = jnp.zeros((2, 1)), jnp.zeros((2,), jnp.int32)
    condition = Condition(labels=jnp.array([3, 5]))
    noise = NoiseLevel(jnp.array([0.5, 0.5]))
    output, carry = guide(labelled, 2.0)(x, noise, condition, carry)
    # The dropped label is -1: (1 + 2) c - 2 (-1).
    np.testing.assert_array_equal(output[:, 0], [11, 17])
    np.testing.assert_array_equal(carry, [3, 5])


def test_guidance_acts_inside_its_interval_only():
    condition = Condition(labels=jnp.array([3]))
    guided = guide(labelled, 2.0, interval=(0.2, 0.6))
    for gamma, expected in ((0.1, 3), (0.2, 11), (0.6, 11), (0.7, 3)):
        noise = NoiseLevel(jnp.array([gamma], jnp.float32))
        output, _ = guided(jnp.zeros((1, 1)), noise, condition, jnp.zeros((1,), jnp.int32))
        assert output[0, 0] == expected


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: samplers.Sampling(SCHEDULE, "dpm"), "sampler is 'dpm': did you mean"),
        (lambda: samplers.Sampling(SCHEDULE, steps=0), "steps is 0: it must be at least 1"),
        (
            lambda: samplers.Sampling(DISCRETE, steps=1001),
            "steps is 1001: the schedule has 1000, give 1 to",
        ),
        (
            lambda: samplers.Sampling(DISCRETE, steps=300, spacing="ddim"),
            "no integer stride takes so many",
        ),
        (
            lambda: samplers.Sampling(DISCRETE, time_shift=1.0),
            "time_shift is 1.0: a discrete schedule has no",
        ),
        (
            lambda: samplers.Sampling(SCHEDULE, "ddpm_learned"),
            "'ddpm_learned': it needs a discrete schedule",
        ),
        (lambda: samplers.Sampling(SCHEDULE, guided_channels=-1), "guided_channels is -1: it must"),
        (lambda: make_schedule("linear_betas", steps=20), "steps of schedule linear_betas is 20"),
        (
            lambda: samplers.Sampling(SCHEDULE, guidance_interval=(0.7, 0.2)),
            r"guidance_interval is \(0.7, 0.2\)",
        ),
        (lambda: make_schedule("sigmod"), "schedule is 'sigmod': did you mean sigmoid"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
