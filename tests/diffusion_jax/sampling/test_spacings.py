"""Which noise levels are visited: in order, each once, from the noisiest that there is."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.spacings import SPACINGS
from diffusion_jax.errors import UserError
from diffusion_jax.sampling.samplers import SAMPLERS, Sampling, transitions

DISCRETE_SCHEDULES = [
    make_schedule("linear_betas", steps=1000),
    make_schedule("cosine_betas", steps=100),
]
SCHEDULES = [
    make_schedule("cosine_simple"),
    make_schedule("linear"),
    make_schedule("log", start=1e-3, end=1),
]
FREE = [spacing for spacing in SPACINGS if spacing not in ("auto", "ddim")]


@pytest.mark.parametrize("spacing", FREE)
@pytest.mark.parametrize("discrete", DISCRETE_SCHEDULES, ids=["linear", "cosine"])
def test_a_respaced_discrete_schedule_has_different_steps_up_to_its_noisiest(spacing, discrete):
    for steps in (1, 2, 3, 10, 50, len(discrete) - 1, len(discrete)):
        found = discrete.respaced(steps, spacing)
        assert len(found) == steps
        assert found.timesteps[0] >= 0
        assert found.timesteps[-1] == len(discrete) - 1
        assert (np.diff(found.timesteps) > 0).all()
        np.testing.assert_array_equal(found.gamma, discrete.gamma[found.timesteps])


def test_integer_strides_start_near_the_noisiest_step_or_are_refused():
    discrete = DISCRETE_SCHEDULES[0]
    assert discrete.respaced(10, "ddim").timesteps.tolist() == list(range(0, 1000, 100))
    for steps, first in ((1, 0), (2, 500), (3, 334 * 2)):
        with pytest.raises(UserError, match=rf"steps is {steps}: spacing=ddim would begin at step"):
            assert discrete.respaced(steps, "ddim").timesteps[-1] == first


@pytest.mark.parametrize("spacing", FREE)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cosine_simple", "linear", "log"])
def test_continuous_times_fall_from_1_to_no_noise(spacing, schedule):
    for steps in (1, 2, 3, 10, 50, 250):
        sampling = Sampling(schedule, "ddim", steps, spacing=spacing)
        times = sampling.times()
        assert times[0] == 1
        assert (np.diff(times) < 0).all()
        assert times[-1] > 0
        found = transitions(sampling, jnp.float32)
        assert float(found.now.gamma[0]) > 0
        assert float(found.next.gamma[-1]) > 1 - 1e-6
        np.testing.assert_allclose(found.now.gamma[1:], found.next.gamma[:-1], rtol=1e-6)


@pytest.mark.parametrize(
    "schedule", [DISCRETE_SCHEDULES[0], SCHEDULES[0]], ids=["discrete", "continuous"]
)
def test_log_snr_and_karras_are_even_in_their_variable(schedule):
    for spacing, scale in (
        ("log_snr", lambda noise: np.log(noise)),
        ("karras", lambda noise: noise ** (1 / 7)),
    ):
        now = transitions(Sampling(schedule, "ddim", 12, spacing=spacing), jnp.float32).now
        noise = np.asarray(now.sigma / now.alpha, np.float64)
        apart = np.diff(scale(noise))[1:]  # the first leads from pure noise to where they begin
        # The steps of a discrete schedule are whole: next to the data two of them are far apart.
        assert np.ptp(apart[:-3]) < 0.04 * -apart.mean()
        assert noise[-1] == pytest.approx(0.01, rel=0.01)


def test_power_steps_are_finer_next_to_the_data():
    kept = DISCRETE_SCHEDULES[0].respaced(4, "power").timesteps
    np.testing.assert_array_equal(kept, np.rint(999 * (np.array([1, 3, 5, 7]) / 7) ** 2.5))
    times = Sampling(SCHEDULES[0], "ddim", 4, spacing="power").times()
    np.testing.assert_allclose(times, (np.array([7, 5, 3, 1]) / 7) ** 1.5, rtol=1e-6)


def test_auto_is_the_spacing_of_the_sampler():
    for sampler in SAMPLERS:
        sampling = Sampling(DISCRETE_SCHEDULES[0], sampler, 10)
        best = "power" if sampler == "dpmpp_2m" else "even"
        assert sampling.chosen_spacing == best
        assert dataclasses.replace(sampling, spacing="even").chosen_spacing == "even"
    for sampler in ("ddpm", "ddim", "dpmpp_2m", "heun"):
        assert Sampling(SCHEDULES[0], sampler, 10).chosen_spacing == "even"


def test_what_a_continuous_schedule_cannot_take_is_refused():
    with pytest.raises(UserError, match="spacing is 'ddim': it needs a discrete schedule"):
        Sampling(SCHEDULES[0], spacing="ddim")
    for shift in (-1, -3, float("nan"), float("inf")):
        with pytest.raises(UserError, match="time_shift is"):
            Sampling(SCHEDULES[0], time_shift=shift)
    with pytest.raises(UserError, match="spacing is 'kerras': did you mean karras"):
        Sampling(SCHEDULES[0], spacing="kerras")
