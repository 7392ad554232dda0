"""DiffuSSM by the same commands: any mesh, interruptions, guidance, and mistakes in its configs."""

import numpy as np
import pytest
import tiny

from configs.rin import digits as rin_digits
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.training import train
from diffusion_jax.parallel.sharding import make_mesh


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps on one device."""
    workdir = tmp_path_factory.mktemp("finished")
    train(tiny.diffussm(train__grid_every=6), workdir, make_mesh(1))
    return workdir


@pytest.mark.parametrize("fsdp, tensor", [(1, 1), (4, 1), (2, 2)])
def test_every_mesh_gives_the_curve_of_one_device(finished, tmp_path, fsdp, tensor):
    train(tiny.diffussm(mesh__fsdp=fsdp, mesh__tensor=tensor), tmp_path)
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(finished), rtol=1e-5)


def test_a_run_continues_on_another_mesh(finished, tmp_path):
    train(tiny.diffussm(train__steps=3, mesh__fsdp=4), tmp_path)
    train(tiny.diffussm(mesh__fsdp=2, mesh__tensor=2), tmp_path)
    np.testing.assert_allclose(tiny.losses(tmp_path), tiny.losses(finished), rtol=1e-5)


def draw(workdir, out, **changes):
    request = dict(num=10, labels="", seed=0, batch_size=8)
    sample(tiny.diffussm(**changes), workdir, out, request)
    with np.load(out / "samples.npz") as archive:
        return archive["arr_0"].astype(int)


def test_samples_do_not_depend_on_the_mesh(finished, tmp_path):
    plain = draw(finished, tmp_path / "plain")
    sharded = draw(finished, tmp_path / "sharded", mesh__fsdp=2, mesh__tensor=2)
    assert plain.shape == (10, 8, 8, 1)
    assert np.abs(plain - sharded).max() <= 1  # grey levels
    guided = draw(finished, tmp_path / "guided", sampling__guidance=2.0)
    assert np.abs(plain - guided).max() > 1


@pytest.mark.parametrize("sampler", ["ddpm", "ddpm_small", "ddim", "dpmpp_2m", "heun"])
def test_every_sampler_runs_on_a_discrete_schedule(finished, tmp_path, sampler):
    assert draw(finished, tmp_path, sampling__sampler=sampler).std() > 0


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model__expansion=3), r"expansion is 3: it must divide the 64 tokens"),
        (dict(model__state_size=5), "state_size is 5"),
        (dict(model__form="ftt"), "form is 'ftt': did you mean fft"),
        (dict(model__start="lim"), "start is 'lim': did you mean lin"),
        (
            dict(objective__variance="fixed"),
            "has learned-variance channels, and objective.variance is",
        ),
        (
            dict(model__learned_variance=False),
            "has no learned-variance channels, and objective.var",
        ),
        (
            dict(
                objective__schedule__name="linear",
                objective__variance="fixed",
                model__learned_variance=False,
                sampling__sampler="ddim",
            ),
            "objective.schedule is 'linear': this network is told the timesteps of a discrete",
        ),
        (
            dict(sampling__schedule__steps=500),
            "a discrete schedule must be the same in both, with the same steps",
        ),
        (dict(sampling__steps=1001), "steps is 1001: the schedule has 1000, give 1 to 1000"),
        (dict(model__name="diffusm"), "model.name is 'diffusm': did you mean diffussm"),
    ],
)
def test_mistakes_are_named_before_anything_is_compiled(changes, message):
    with pytest.raises(UserError, match=message):
        build(tiny.diffussm(**changes))


def test_rin_has_no_variance_head():
    config = rin_digits.get_config()
    config.sampling.sampler = "ddpm_learned"
    with pytest.raises(
        UserError, match="ddpm_learned': this network has no learned-variance channels"
    ):
        build(config)


def test_a_width_that_no_parameter_can_split_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"mesh.tensor is 2: no parameter of this network"):
        train(tiny.config(mesh__tensor=2), tmp_path)


def test_rin_may_train_on_a_discrete_schedule(tmp_path):
    """gamma is all that RIN is told, and a discrete schedule has it."""
    discrete = dict(name="linear_betas", start=0.0, end=1.0, tau=1.0, steps=1000)
    config = tiny.config(train__steps=2)
    config.objective.schedule = discrete
    config.sampling.schedule = discrete
    train(config, tmp_path)
    assert np.isfinite(tiny.losses(tmp_path)).all()


def test_a_mesh_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="their product must divide the number of devices, 8"):
        train(tiny.diffussm(mesh__fsdp=3), tmp_path)
