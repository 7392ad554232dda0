"""No sample that is not finite leaves a sampler, and every schedule stays where it is finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.denoiser import Condition, Prediction
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.objectives import Objective
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.errors import UserError
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.samplers import SAMPLERS, Sampling, transitions
from diffusion_jax.sampling.scan import make_sampler

SHAPE, STEPS = (2, 2, 1), 5


class Breaking:
    """A network whose eps is `params` where there is less noise than gamma 0.5, for label 1."""

    def initial_carry(self, batch_size):
        return ()

    def apply(self, variables, x_t, noise, condition, carry):
        breaks = (noise.gamma > 0.5) & (condition.labels == 1)
        eps = jnp.where(process.expand(breaks, x_t), variables["params"], 0.1)
        return Prediction(jnp.broadcast_to(eps, x_t.shape), carry)


def inputs(mesh):
    labels = np.array([0, 0, 1, 0, 1, 0, 0, 0], np.int32)
    return hosts.put((np.arange(10, 18, dtype=np.int32), Condition(labels=labels)), mesh)


def draw(value, sampler="ddim", guidance=0.0, clip=True, given=NOTHING, latents=False, **kwargs):
    mesh = make_mesh()
    sampling = Sampling(make_schedule("cosine_simple"), sampler, STEPS, guidance)
    objective = Objective(make_schedule("cosine_simple"), clip_x0=clip)
    run = make_sampler(
        Breaking(), objective, sampling, SHAPE, mesh, seed=0, latents=latents, **kwargs
    )
    return run(jnp.float32(value), *inputs(mesh), hosts.put(given, mesh))


# The levels gamma of the five steps are 0, 0.1, 0.35, 0.65 and 0.9; heun looks one step ahead.
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, 1e30], ids=str)
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "ddpm_learned"])
def test_the_first_sample_and_step_that_are_not_finite_are_named(sampler, value):
    step = 3 if sampler == "heun" else 4
    message = rf"sample 12 is not finite: at reverse step {step} of 5 .*\(so are 2 of 8 samples\)"
    with pytest.raises(UserError, match=message):
        draw(value, sampler)


def test_whatever_is_returned_is_checked():
    """Latents, what is watched, and guided samples."""
    for options in (dict(latents=True, clip=False), dict(watch=lambda one: one)):
        with pytest.raises(UserError, match="sample 12 is not finite: at reverse step 4 of 5"):
            draw(jnp.nan, **options)
    with pytest.raises(UserError, match="sample 12 is not finite: at reverse step 4 of 5"):
        draw(0.0, guidance=1e30)  # eps of the dropped label is 0.1
    images = np.full((8, *SHAPE), np.nan, np.float32)
    with pytest.raises(UserError, match="sample 10 is not finite: at reverse step 1 of 3"):
        draw(0.0, given=Given(images=images), order=np.arange(2, 5))


def test_finite_samples_pass():
    assert draw(0.2).dtype == jnp.uint8
    assert draw(0.2, guidance=3.0).shape == (8, *SHAPE)


def test_images_outside_of_a_program_are_checked():
    images = np.zeros((3, 2, 2, 1), np.float32)
    np.testing.assert_array_equal(process.to_uint8(images, 1.0), 128)
    for value in (np.nan, np.inf, -np.inf):
        images[2, 1, 0] = value
        with pytest.raises(UserError, match=r"sample 2 is not finite \(so are 1 of 3\)"):
            process.to_uint8(images, 1.0)


SECTIONS = {
    "sigmoid": dict(start=-3.0, end=3.0, tau=0.9),
    "cosine": dict(start=0.2, end=1.0, tau=0.9),  # an odd power of a cosine that rounds below 0
    "log": dict(start=1e-3, end=1.0),
    "linear": {},
    "cosine_simple": {},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_gamma_falls_from_1_to_above_0(name):
    gamma = np.asarray(make_schedule(name, **SECTIONS[name])(jnp.linspace(0, 1, 1001)))
    assert gamma[0] > 0.999
    assert (gamma >= 1e-9).all()
    assert gamma[-1] < 1e-4
    assert (np.diff(gamma) < 1e-7).all()


def test_no_step_starts_without_noise():
    """A steep sigmoid rounds to gamma = 1 long before t = 0; eps there would be 0 / 0."""
    schedule = make_schedule("sigmoid", start=-3.0, end=3.0, tau=0.01)
    steps = transitions(Sampling(schedule, "ddim", 50), jnp.float32)
    assert (np.asarray(steps.now.sigma) > 0).all()
    objective = Objective(schedule, prediction="v")
    run = make_sampler(
        Breaking(), objective, Sampling(schedule, "ddim", 50), SHAPE, make_mesh(), seed=0
    )
    run(jnp.float32(0.0), *inputs(make_mesh()), NOTHING)  # raises nothing


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("log", dict(start=0.0), "start of schedule log is 0: give 1e-06 to 1e.06, as in start"),
        ("log", dict(end=-1.0), "end of schedule log is -1"),
        ("log", dict(start=1.0), "start and end of schedule log are 1 and 1: between them"),
        ("sigmoid", dict(tau=0.0), "tau of schedule sigmoid is 0: give 0.01 to 10000, as in start"),
        ("sigmoid", dict(tau=1e-30), "tau of schedule sigmoid is 1e-30"),
        ("sigmoid", dict(start=3.0), "start and end of schedule sigmoid are 3 and 3"),
        ("sigmoid", dict(start=8.0, end=9.0), "start and end of schedule sigmoid are 8 and 9"),
        ("sigmoid", dict(end=float("nan")), "end of schedule sigmoid is nan: give"),
        ("sigmoid", dict(start=float("-inf")), "start of schedule sigmoid is -inf"),
        ("cosine", dict(start=1.0), "start and end of schedule cosine are 1 and 1"),
        ("cosine", dict(end=1.5), "end of schedule cosine is 1.5: give 0 to 1, as in start"),
        ("cosine", dict(tau=0.0), "tau of schedule cosine is 0"),
        ("cosine", dict(tau=float("inf")), "tau of schedule cosine is inf"),
    ],
)
def test_parameters_without_a_schedule_are_refused(name, changes, message):
    with pytest.raises(UserError, match=message):
        make_schedule(name, **SECTIONS[name] | changes)


def test_the_program_returns_samples_and_a_number_for_each():
    """The check costs neither a second pass nor a copy of every step."""
    sampling = Sampling(make_schedule("cosine_simple"), "ddim", STEPS)
    objective = Objective(make_schedule("cosine_simple"))
    run = make_sampler(Breaking(), objective, sampling, SHAPE, make_mesh(), seed=0)
    found = jax.eval_shape(run.program, jnp.float32(0), *inputs(make_mesh()), NOTHING)
    expected = [((8, *SHAPE), jnp.uint8), ((8,), jnp.int32)]
    assert [(part.shape, part.dtype) for part in found] == expected
