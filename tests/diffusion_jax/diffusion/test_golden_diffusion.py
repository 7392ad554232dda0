"""Schedules, conversions, losses and whole sampling loops agree with the official code's."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import (
    INDEX,
    PREDICTIONS,
    SAMPLERS,
    cases,
    largest_error,
    load,
    network_of_config,
    part,
    schedule,
)

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion import objectives, process
from diffusion_jax.sampling import samplers
from diffusion_jax.sampling.ddim import ddim_step
from diffusion_jax.sampling.ddpm import ddpm_step, large_variance, small_variance
from diffusion_jax.sampling.scan import generate
from rin_jax.official import params_from_official
from rin_jax.positions import position_table, scalar_code

PIECES = next(case for case in INDEX if case["kind"] == "pieces")
PRECISIONS = [
    pytest.param(jnp.float32, "out", id="float32"),
    pytest.param(jnp.float64, "out64", id="float64"),
]


def precision(dtype):
    return jax.enable_x64(True) if dtype == jnp.float64 else contextlib.nullcontext()


def each_piece(group: str, golden: str):
    arrays = load(PIECES)
    names = [name for name in arrays if name.startswith(f"{group}/{golden}/")]
    assert names
    for name in names:
        yield name.split("/", 2)[2], arrays[name], part(arrays, f"{group}/")


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
def test_schedules(dtype, golden):
    with precision(dtype):
        for name, expected, given in each_piece("sched", golden):
            gamma = schedule(name)(jnp.asarray(given["t"], dtype))
            assert largest_error(gamma, expected) < (1e-6 if dtype == jnp.float32 else 1e-12), name


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
def test_conversions(dtype, golden):
    with precision(dtype):
        for name, expected, given in each_piece("x0eps", golden):
            kind, clip, truncate = name.split("/")[0].split("|")
            x0, eps = process.to_x0_eps(
                jnp.asarray(given["denoise_out"], dtype),
                jnp.asarray(given["xt"], dtype),
                NoiseLevel(jnp.asarray(given["gamma"], dtype).reshape(-1)),
                PREDICTIONS[kind],
                None if clip == "clip=none" else 1.0,
                consistent_eps=truncate == "truncate=1",
            )
            ours = x0 if name.endswith("data_pred") else eps
            assert largest_error(ours, expected) < (1e-5 if dtype == jnp.float32 else 1e-12), name


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
def test_transitions(dtype, golden):
    with precision(dtype):
        for name, expected, given in each_piece("trans", golden):
            given = {key: jnp.asarray(value, dtype) for key, value in given.items()}
            now, after = (NoiseLevel(given[key]) for key in ("gamma_now", "gamma_prev"))
            step = process.transition(now, after)
            if name == "ddim":
                ours = ddim_step(given["data_pred"], given["noise_pred"], after)
            else:
                small = name == "ddpm@small"
                variance = (small_variance if small else large_variance)(None, step)
                ours = ddpm_step(
                    given["samples"], given["noise_pred"], step, given["noise"], variance
                )
            assert largest_error(ours, expected) < (1e-5 if dtype == jnp.float32 else 1e-12), name


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
def test_adding_noise(dtype, golden):
    with precision(dtype):
        arrays = load(PIECES)
        given = {k: jnp.asarray(v, dtype) for k, v in part(arrays, "addnoise/").items()}
        gamma = schedule("sigmoid@-3,3,0.9")(given["time_step"])
        noised = process.diffuse(given["inputs"], given["noise"], NoiseLevel(gamma))
        tolerance = 1e-6 if dtype == jnp.float32 else 1e-12
        assert largest_error(noised, arrays[f"addnoise/{golden}/inputs_noised"]) < tolerance
        assert largest_error(gamma, arrays[f"addnoise/{golden}/gamma"].reshape(-1)) < tolerance


def test_position_codes():
    golden = part(load(PIECES), "pos/out64/")
    assert largest_error(position_table((7,), 10, 1e4), golden["1d_len7_dim10_max10000"][0]) < 1e-9
    table = position_table((3, 5), 12, 1e3).reshape(1, 3, 5, 12)
    assert largest_error(table, golden["2d_3x5_dim12_max1000"]) < 1e-9
    with jax.enable_x64(True):
        raw = scalar_code(jnp.array([0, 0.5, 1, 3.25, 700]), 8)
        assert largest_error(raw, golden["raw_dim8"][0]) < 1e-12
        gamma = jnp.array([0, 0.28125, 0.6137, 1], jnp.float64)
        code = scalar_code(gamma * 1e4, 8)
        assert largest_error(code, golden["time_code_dim8_scale1e4"]) < 1e-9


def loss_inputs(case: dict, arrays: dict, dtype):
    """(objective, x0, condition, draws) of a golden loss."""
    config = case["config"]["model"]
    objective = objectives.Objective(
        schedule=schedule(config["train_schedule"]),
        prediction=PREDICTIONS[config["pred_type"]],
        loss=PREDICTIONS[config["loss_type"]],
        input_scale=config["b_scale"],
        normalize_input=config["normalize_noisy_input"],
        self_conditioning="mask" if config["self_cond_by_masking"] else "first",
        self_conditioning_rate=config["self_cond_rate"],
        label_dropout=config["cond_dropout"],
    )
    uniform = [arrays[name].reshape(-1) for name in sorted(arrays) if name.startswith("uniform")]
    batch = len(arrays["labels"])
    # The draws come in order: labels of the carry pass, the carry mask, labels of the main pass.
    labels = [uniform.pop(0), uniform.pop()] if config["cond_dropout"] else [np.ones(batch)] * 2
    keep_carry = uniform[0] if uniform else np.ones(batch)
    draws = objectives.Draws(
        jnp.asarray(arrays["time_step"], dtype),
        jnp.asarray(arrays["noise"], dtype),
        jnp.asarray(keep_carry, dtype),
        jnp.asarray(np.stack(labels), dtype),
    )
    x0 = process.to_model_range(jnp.asarray(arrays["images"], dtype), objective.input_scale)
    return objective, x0, Condition(labels=jnp.asarray(arrays["labels"].argmax(-1))), draws


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
@pytest.mark.parametrize("case", cases("loss"))
def test_losses_and_gradients(case, dtype, golden):
    with precision(dtype):
        arrays = load(case)
        model, params = network_of_config(case["config"], arrays, dtype)
        objective, x0, condition, draws = loss_inputs(case, arrays, dtype)

        @jax.jit
        def loss_and_gradient(params):
            return jax.value_and_grad(
                lambda params: objectives.loss(model, params, objective, x0, condition, draws)
            )(params)

        loss, gradient = loss_and_gradient(params)
        tolerance = 1e-4 if dtype == jnp.float32 else 1e-9
        assert abs(float(loss) - arrays[f"{golden}/loss"]) < tolerance
        norm = math.sqrt(sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(gradient)))
        golden_norm = float(arrays[f"{golden}/grad_global_norm"])
        assert abs(norm - golden_norm) < tolerance * golden_norm
        golden_gradient = part(arrays, "grad/" if dtype == jnp.float32 else "grad64/")
        if not golden_gradient:
            return
        expected = params_from_official(golden_gradient, model)
        # Gradients of key biases are zero in exact arithmetic: errors are measured on a floor.
        errors = jax.tree.map(
            lambda ours, golden: float(
                jnp.abs(ours - golden).max() / max(float(jnp.abs(golden).max()), 1e-3 * golden_norm)
            ),
            gradient,
            expected,
        )
        assert max(jax.tree.leaves(errors)) < (1e-3 if dtype == jnp.float32 else 1e-9)


LOOPS = [
    pytest.param(case, loop, id=loop["id"])
    for case in INDEX
    if case["kind"] == "generate"
    for loop in case["loops"]
]


@pytest.mark.parametrize("dtype, golden", PRECISIONS)
@pytest.mark.parametrize("case, loop", LOOPS)
def test_sampling_loops(case, loop, dtype, golden):
    """Whole trajectories: samples, x0 estimates and the carried latents of every step."""
    with precision(dtype):
        arrays = load(case)
        model, params = network_of_config(case["config"], arrays, dtype)
        given = part(arrays, loop["id"] + "/")
        settings = loop["generate_kwargs"]
        prediction = PREDICTIONS[settings["pred_type"]]
        sampling = samplers.Sampling(
            schedule(settings["schedule"]),
            SAMPLERS.get(loop["sampler"], loop["sampler"]),
            case["iterations"],
            settings["guidance"],
            time_shift=settings["td"],
            carry_decay=settings["self_cond_decay"],
        )
        objective = objectives.Objective(schedule("cosine"), prediction)
        noise = jnp.asarray(given["step_noise"], dtype) if "step_noise" in given else None
        x0, _, steps = jax.jit(
            lambda x: generate(
                lambda *args: objectives.denoise(model, params, objective, *args),
                x,
                Condition(labels=jnp.asarray(arrays["labels"].argmax(-1))),
                model.initial_carry(len(x)),
                lambda k: noise[k],
                sampling,
                prediction,
                objective.clip,
                watch=lambda one: one,
            )
        )(jnp.asarray(given["init_noise"], dtype))
        exact = dtype == jnp.float64
        assert largest_error(x0, given[f"{golden}/final"]) < (1e-9 if exact else 5e-3)
        assert largest_error(steps.x_next, given[f"{golden}/traj_samples"]) < (
            1e-9 if exact else 5e-3
        )
        # The float64 twin stores no latents: 1e-2 is the float32 run's own distance.
        assert largest_error(steps.carry_next["latents"], given["out/traj_latent"]) < 1e-2
