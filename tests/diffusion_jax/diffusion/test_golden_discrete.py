"""Discrete schedules, hybrid losses with gradients, and whole loops agree with the DiT code's."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import load_diffussm as load
from golden import part, relative_error

from diffusion_jax.denoiser import Condition, NoiseLevel, Prediction
from diffusion_jax.diffusion import objectives, process, variational
from diffusion_jax.diffusion.discrete import DiscreteSchedule, linear_betas
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.errors import UserError
from diffusion_jax.sampling import samplers
from diffusion_jax.sampling.guidance import guide
from diffusion_jax.sampling.scan import generate

TOLERANCE = 1e-4


def discrete_schedule_of(respacing: str, steps: int = 1000) -> DiscreteSchedule:
    """Our discrete schedule for the reference's respacing string."""
    discrete = make_schedule("linear_betas", steps=steps)
    if not respacing:
        return discrete
    spacing = "ddim" if respacing.startswith("ddim") else "even"
    return discrete.respaced(int(respacing.removeprefix("ddim")), spacing)


def last(array):
    """NCHW -> NHWC."""
    return jnp.asarray(np.moveaxis(array, -3, -1))


def groups(arrays):
    return sorted({name.split("/")[0] for name in arrays})


def test_discrete_schedules_and_respacing():
    arrays = load("diffusion_schedules.npz")
    respacings = {"T1000": "", "T400": "", "r250": "250", "r50": "50", "ddim25": "ddim25"}
    for case in groups(arrays):
        golden = part(arrays, case + "/")
        ours = discrete_schedule_of(respacings[case], 400 if case == "T400" else 1000)
        np.testing.assert_array_equal(ours.timesteps, golden["timestep_map"])
        for name, values in (
            ("betas", ours.beta),
            ("alphas_cumprod", ours.gamma),
            ("alphas_cumprod_prev", ours.gamma_next),
            ("posterior_log_variance_clipped", ours.log_posterior),
        ):
            np.testing.assert_allclose(values, golden[name], rtol=1e-9, err_msg=name)


def test_cosine_betas():
    """arXiv 2102.09672, eq. 17: gamma(t) / gamma(0), but for the clipped last steps."""
    discrete = make_schedule("cosine_betas", steps=1000)
    t = (np.arange(1000) + 1) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(discrete.gamma[:-1], f[:-1], rtol=1e-9)
    assert discrete.beta.max() == pytest.approx(0.999)


class Fixed:
    """Puts out its parameters, and remembers what it was told."""

    def initial_carry(self, batch_size):
        return ()

    def apply(self, variables, x_t, noise, condition, carry, *, train, rngs):
        self.x_t, self.noise = x_t, noise
        return Prediction(variables["params"], carry)


def term_case(case: str):
    """(golden arrays, objective, x0, draws, step, network output) of a case."""
    given = part(load("diffusion_terms.npz"), case + "/")
    discrete = discrete_schedule_of("50" if case == "ls_r50" else "")
    variance = "fixed" if case == "fixed_large" else "learned"
    objective = objectives.Objective(discrete, variance=variance)
    index = jnp.asarray(given["t"].astype(np.int32))
    t = (index.astype(jnp.float32) + 0.5) / len(discrete)
    unused = jnp.ones((2, len(t)))
    draws = objectives.Draws(t, last(given["noise"]), unused[0], unused)
    step = discrete.transition(index, jnp.float32)
    return given, objective, last(given["x_start"]), draws, step, last(given["model_output"])


@pytest.mark.parametrize("case", ["ls", "ls_r50", "fixed_large"])
def test_process_and_posterior(case):
    given, _, x0, draws, step, output = term_case(case)
    x_t = process.diffuse(x0, draws.eps, step.now)
    assert relative_error(x_t, last(given["x_t"])) < 1e-6
    mean = process.posterior_mean(x0, x_t, step)
    assert relative_error(mean, last(given["posterior_mean"])) < TOLERANCE
    np.testing.assert_allclose(
        step.log_posterior, given["posterior_log_variance_clipped"][:, 0, 0, 0], rtol=TOLERANCE
    )
    eps, spread = jnp.split(output, [x0.shape[-1]], axis=-1)
    for golden, clip in (("p_clip0", None), ("p_clip1", 1.0)):
        x0_hat, _ = process.to_x0_eps(eps, x_t, step.now, "eps", clip, consistent_eps=True)
        assert relative_error(x0_hat, last(given[f"{golden}/pred_xstart"])) < TOLERANCE
        mean = process.posterior_mean(x0_hat, x_t, step)
        assert relative_error(mean, last(given[f"{golden}/mean"])) < TOLERANCE
        if case != "fixed_large":
            log_variance = process.learned_log_variance(spread, step)
            assert relative_error(log_variance, last(given[f"{golden}/log_variance"])) < TOLERANCE


@pytest.mark.parametrize("case", ["ls", "ls_r50", "fixed_large"])
def test_losses_and_gradients(case):
    """The reference sums over examples; into eps goes the squared error's gradient alone."""
    given, objective, x0, draws, step, output = term_case(case)
    network = Fixed()

    def of_one(output, x0, draws):
        draws = jax.tree.map(lambda part: part[None], draws)
        draws = draws._replace(keep_label=draws.keep_label[0][:, None])
        return objectives.loss(network, output[None], objective, x0[None], Condition(), draws)

    axes = objectives.Draws(0, 0, 0, 1)
    losses, gradient = jax.jit(jax.vmap(jax.value_and_grad(of_one), in_axes=(0, 0, axes)))(
        output, x0, draws
    )
    np.testing.assert_allclose(losses, given["training_losses/loss"], rtol=TOLERANCE)
    golden = last(given["training_losses/grad_model_output"])
    for ours, theirs in zip(gradient, golden, strict=True):
        assert relative_error(ours, theirs) < TOLERANCE

    x_t = process.diffuse(x0, draws.eps, step.now)
    whole = objectives.loss(network, output, objective, x0, Condition(), draws)
    np.testing.assert_allclose(whole, given["training_losses/loss"].mean(), rtol=TOLERANCE)
    np.testing.assert_array_equal(network.noise.timestep, given["t_seen_by_model"])
    np.testing.assert_array_equal(network.x_t, x_t)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_likelihood_of_a_grey_level(dtype):
    """The float64 reference, met in float32 too; next to its floor it cancels itself, by 1e-6."""
    given = part(load("diffusion_terms.npz"), "decoder/")
    with jax.enable_x64(dtype == jnp.float64):
        arrays = (jnp.asarray(given[name], dtype) for name in ("x", "means", "log_scales"))
        ours = variational.bin_log_likelihood(*arrays)
        assert relative_error(ours, given["log_probs64"]) < (1e-5 if dtype == jnp.float32 else 1e-6)


def test_the_likelihood_has_finite_gradients_everywhere():
    def total(mean, log_scale):
        return variational.bin_log_likelihood(x, mean, log_scale).sum()

    x, mean, log_scale = (
        part.reshape(-1)
        for part in jnp.meshgrid(
            jnp.linspace(-1, 1, 21), jnp.linspace(-3, 3, 21), jnp.linspace(-9, 3, 21)
        )
    )
    for gradient in jax.grad(total, argnums=(0, 1))(mean, log_scale):
        assert bool(jnp.isfinite(gradient).all())


def toy(golden):
    """The reference's linear network: channels, timestep, label and position, added up."""
    w = {name: jnp.asarray(value) for name, value in part(golden, "toy/").items()}
    half = w["V"].shape[1] // 2
    frequencies = jnp.asarray(1e4 ** (-np.arange(half) / half), jnp.float32)

    def denoise(x, noise, condition, carry):
        angles = noise.timestep[:, None].astype(jnp.float32) * frequencies[None]
        embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        labels = jnp.where(condition.labels < 0, len(w["Y"]) - 1, condition.labels)
        offset = embedding @ w["V"].T + w["b"][None] + w["Y"][labels]
        output = x @ w["W"].T + offset[:, None, None] + w["S"][None, :, :, None]
        return Prediction(output, carry)

    return denoise


@pytest.mark.parametrize("case", ["ddpm10_noclip", "ddpm10_clip", "ddim10", "cfg_ddpm10"])
def test_sampling_loops(case):
    golden = part(load("diffusion_loops.npz"), case + "/")
    x, labels = last(golden["x_T"]), jnp.asarray(golden["y"].astype(np.int32))
    noises = last(golden["noises"])[:, : len(x)]
    sampling = samplers.Sampling(
        linear_betas(1000),
        "ddim" if case == "ddim10" else "ddpm_learned",
        10,
        3.0 if case == "cfg_ddpm10" else 0.0,
        guided_channels=3,
        spacing="ddim" if case == "ddim10" else "even",
    )
    clip = 1.0 if case == "ddpm10_clip" else None
    x0, _, steps = jax.jit(
        lambda x: generate(
            toy(golden),
            x,
            Condition(labels=labels),
            (),
            lambda k: noises[k],
            sampling,
            "eps",
            clip,
            watch=lambda one: one,
        )
    )(x)
    for ours, name in ((steps.x_next, "samples"), (steps.x0, "pred_xstart")):
        for mine, theirs in zip(ours, last(golden[name])[:, : len(x)], strict=True):
            assert relative_error(mine, theirs) < TOLERANCE, name
    assert relative_error(x0, last(golden["samples"])[-1, : len(x)]) < TOLERANCE


@pytest.mark.parametrize("case", ["cfgsplit_C4_learn", "cfgsplit_C3_learn", "cfgsplit_C4_nosigma"])
def test_guidance_on_chosen_channels(case):
    golden = part(load("diffusion_loops.npz"), case + "/")
    scale = {"cfgsplit_C4_learn": 4.0, "cfgsplit_C3_learn": 1.5, "cfgsplit_C4_nosigma": 7.25}[case]
    outputs = last(golden["model_out"])
    half = len(outputs) // 2

    def denoise(x, noise, condition, carry):
        dropped = condition.labels[0] < 0
        return Prediction(jnp.where(dropped, outputs[half:], outputs[:half]), carry)

    condition = Condition(labels=jnp.zeros((half,), jnp.int32))
    x = last(golden["x"])[:half]
    for channels, name in ((3, "out_first3"), (0, "out_all")):
        guided = guide(denoise, scale - 1, channels=channels)
        output, _ = guided(x, NoiseLevel(jnp.ones((half,))), condition, ())
        assert relative_error(output, last(golden[name])[:half]) < 1e-5


def test_a_head_that_does_not_fit_the_objective_is_named():
    objective = objectives.Objective(linear_betas(1000))
    x = jnp.zeros((2, 4, 3))
    network = SimpleNamespace(apply=lambda _, x, *rest: Prediction(jnp.concatenate([x, x], -1), ()))
    with pytest.raises(UserError, match=r"puts out 6 channels, and variance='fixed' wants 3"):
        objectives.denoise(network, {}, objective, x, NoiseLevel(jnp.ones(2)), Condition(), ())
