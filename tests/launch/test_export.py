"""Exported weights are those of the run: they sample, and train, as it does."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from parsed import parsed

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exporting import Found, export, of_official, of_run
from diffusion_jax.experiment.exports import fingerprint, read_export, read_provenance, to_tensors
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.scoring import draw
from diffusion_jax.experiment.start import REWARM_STEPS, find_start, read_start
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.weights import Checkpoint, load_weights, params_of
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.metrics import MetricWriter
from launch.common.arguments import Size
from launch.common.options import define_samples, opened_folder, sampling_job
from launch.common.report import write_report
from rin_jax.official import official_shapes, params_to_official

CONFIGS = {"rin": tiny.config(), "diffussm": tiny.diffussm()}
OPTIONS = tiny.config(  # of the official code that no published config sets
    model__time_on="interface",
    model__condition_on="interface",
    model__decoupled_read=True,
    model__condition_dim=12,
    model__convolution=3,
    model__attention_dropout=0.1,
)
START, STEPS = 2, 12
WORDS = dict(config="rin/digits", weights="ema", step=7, images_seen=112)
REQUEST = dict(num=10, labels="", seed=1, batch_size=16)


def config(**changes):
    """Of a run that starts at step 2 and warms up again for one."""
    return tiny.config(**{"train__steps": STEPS, "train__checkpoint_every": 5} | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of four steps, with the checkpoint of step 2."""
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.config(train__steps=4), workdir, name="rin/digits")
    return workdir


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    """Its raw parameters of step 2."""
    out = tmp_path_factory.mktemp("exported") / "params"
    export(
        of_run(run, "params", Checkpoint(step=START)),
        out,
        shard_size=2000,
        command="python -m launch.export",
    )
    return out


@pytest.fixture(scope="module")
def started(exported, tmp_path_factory) -> Path:
    """A run that goes on from them."""
    workdir = tmp_path_factory.mktemp("started")
    train(config(), workdir, init_from=exported, init_step=START)
    return workdir


def random_params(name: str) -> dict:
    return random_params_of(CONFIGS[name])


def random_params_of(config) -> dict:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(build(config).init_params, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def check_equal(first, second) -> None:
    first, second = to_tensors(first), to_tensors(second)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shard_size", [1, 4000, 2**31])
def test_the_round_trip_of_every_network_is_exact(tmp_path, name, shard_size):
    params = random_params(name)
    export(Found(params, CONFIGS[name], WORDS), tmp_path / "out", shard_size=shard_size)
    experiment = build(read_workdir(tmp_path / "out"))
    loaded = load_weights(tmp_path / "out", CONFIGS[name], experiment, make_mesh(fsdp=4))
    check_equal(loaded.params, params)
    assert loaded.step == 7
    assert loaded.sha256 == fingerprint(read_provenance(tmp_path / "out"))


def test_the_official_layout_is_exact_and_of_rin_alone(tmp_path):
    params = random_params("rin")
    export(Found(params, CONFIGS["rin"], WORDS), tmp_path / "out", layout="official")
    written, experiment = read_export(tmp_path / "out"), build(CONFIGS["rin"])
    assert written.tensors.keys() == official_shapes(experiment.denoiser).keys()
    check_equal(params_of(written, experiment), params)
    found = Found(random_params("diffussm"), CONFIGS["diffussm"], WORDS)
    with pytest.raises(UserError, match="there is no official code of DiffuSSM"):
        export(found, tmp_path / "other", layout="official")
    assert not (tmp_path / "other").exists()


def test_the_state_space_stays_float32_in_bfloat16(tmp_path):
    export(
        Found(random_params("diffussm"), CONFIGS["diffussm"], WORDS),
        tmp_path / "out",
        dtype="bfloat16",
    )
    tensors = read_export(tmp_path / "out").tensors
    kept = {name for name, value in tensors.items() if value.dtype == np.float32}
    of_each = ("log_dt", "log_decay", "frequency", "c")
    ssm = {"skip", *(f"{way}_{name}" for way in ("forward", "backward") for name in of_each)}
    assert kept == {name for name in tensors if name.rsplit(".", 1)[-1] in ssm}
    assert {name.rsplit(".", 1)[-1] for name in kept} == ssm


@pytest.mark.parametrize("config", [CONFIGS["rin"], OPTIONS], ids=["plain", "options"])
def test_weights_of_the_official_code_become_an_export(config, tmp_path):
    params, network = random_params_of(config), build(config).denoiser
    variables = params_to_official(params, network)
    np.savez(tmp_path / "weights.npz", **{f"tape/{name}": v for name, v in variables.items()})
    found = of_official(tmp_path / "weights.npz", config, "rin/digits")
    export(found, tmp_path / "out")
    check_equal(params_of(read_export(tmp_path / "out"), build(config)), params)
    provenance = read_provenance(tmp_path / "out")
    assert (provenance["weights"], provenance["step"]) == ("official", None)
    assert len(provenance["official"]["sha256"]) == 64
    with pytest.raises(UserError, match=r"has shape .*, and this network's has"):
        of_official(tmp_path / "weights.npz", tiny.config(model__interface_dim=12), "")
    with pytest.raises(UserError, match="there is no official code of DiffuSSM"):
        of_official(tmp_path / "weights.npz", CONFIGS["diffussm"], "")


def test_an_export_says_what_it_is(run, exported):
    provenance = read_provenance(exported)
    data = json.loads((run / "data.json").read_text())
    expected = dict(config="rin/digits", weights="params", step=2, images_seen=32, seed=0)
    expected |= dict(layout="ours", dtype="float32", data=data, start=None)
    assert expected.items() <= provenance.items()
    assert provenance["command"] == "python -m launch.export"
    assert provenance["code"] and provenance["jax"] == jax.__version__
    assert len(provenance["shards"]) > 1
    assert read_workdir(exported).to_json() == read_workdir(run).to_json()


def test_an_export_is_sampled_as_its_run_is(run, tmp_path):
    folder = tmp_path / "export"
    export(of_run(run), folder)
    drawn = [sample(read_workdir(run), of, None, REQUEST) for of in (run, folder)]
    assert [out.parent for out in drawn] == [run / "samples", folder / "samples"]
    images = [np.load(out / "samples.npz")["arr_0"] for out in drawn]
    np.testing.assert_array_equal(*images)
    request = read_request(drawn[1])
    assert request["exported"] == fingerprint(read_provenance(folder))
    assert request["step"] == 4
    with pytest.raises(UserError, match="holds samples of another request"):
        sample(read_workdir(run), run, drawn[1], REQUEST)


def test_a_result_says_which_weights_it_is_of(exported):
    asked = parsed(
        lambda: define_samples(num=10), f"--init_from={exported}", "--seed=1", "--batch_size=16"
    )
    out, about = draw(sampling_job(asked), "a test")
    assert out.parent == exported / "samples"
    assert about.weights == {"denoiser": fingerprint(read_provenance(exported))}
    assert (about.config, about.step, about.images_seen) == ("rin/digits", 2, 32)


def test_training_starts_at_the_weights_and_goes_on_with_the_schedule(run, exported, started):
    """The same data, noise and parameters as the run's at step 2: the same loss; fresh moments."""
    curve, whole = tiny.curve(started), tiny.curve(run)
    assert [record["step"] for record in curve] == list(range(START + 1, STEPS + 1))
    assert curve[0]["loss"] == whole[2]["loss"]
    peak = config().optimizer.learning_rate
    rates = [record["learning_rate"] for record in curve]
    np.testing.assert_allclose(rates, [0, *[peak] * (STEPS - START - 1)], rtol=1e-6)
    assert curve[1]["loss"] != whole[3]["loss"]  # the first step's rate was 0
    start = read_start(started)
    assert (start.step, start.rewarm_steps) == (START, 1)
    assert start.path == str(exported)
    assert (started / "parameters.txt").exists()
    assert f"{exported}, at step 2" in write_report(started).read_text()
    assert of_run(started).about["start"] == start._asdict()


@pytest.mark.parametrize(
    "stopped, again", [(4, False), (7, True)], ids=["before_a_checkpoint", "after_one"]
)
def test_a_started_run_continues_bit_for_bit(
    exported, started, tmp_path, monkeypatch, capsys, stopped, again
):
    given = dict(init_from=exported, init_step=START)
    write = MetricWriter.write

    def write_and_stop(self, step, scalars):
        if step == stopped:
            raise KeyboardInterrupt
        write(self, step, scalars)

    monkeypatch.setattr(MetricWriter, "write", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path, **given)
    said = f"Started from {exported} (params of rin/digits, step 2) at step 2: the optimizer's "
    assert said + "moments are fresh" in capsys.readouterr().out
    monkeypatch.undo()
    train(config(), tmp_path, **(given if again else {}))
    assert (said in capsys.readouterr().out) == (stopped == 4)  # a checkpoint needs no weights
    assert tiny.curve(tmp_path) == tiny.curve(started)


def test_a_run_keeps_to_its_start(run, exported, started, tmp_path):
    other = tmp_path / "other"
    export(of_run(run, checkpoint=Checkpoint(step=START)), other)
    for changes in (dict(init_from=other, init_step=START), dict(init_from=exported)):
        with pytest.raises(UserError, match=r"started from .*params at step 2, and not from"):
            train(config(), started, **changes)
    with pytest.raises(UserError, match="holds a run that started from random weights"):
        train(config(), run, init_from=exported)
    with pytest.raises(UserError, match="holds exported weights: give them as --init_from"):
        train(config(), exported)
    with pytest.raises(UserError, match="--init_step is 3: give --init_from"):
        train(config(), tmp_path / "new", init_step=3)
    assert not (tmp_path / "new").exists()


def test_weights_that_changed_before_the_first_checkpoint_are_refused(started, tmp_path):
    start = read_start(started)._replace(sha256="0")
    (tmp_path / "start.json").write_text(json.dumps(start._asdict()))
    with pytest.raises(UserError, match="holds other weights than when this run started"):
        train(config(), tmp_path)


@pytest.mark.parametrize(
    "changes, step, message",
    [
        (dict(model__latent_dim=32), 0, r"another network \(model.latent_dim is 32 here and 16 th"),
        (dict(model__latent_heads=4), 0, r"model.latent_heads is 4 here and 2 there\): give its"),
        ({}, STEPS, "--init_step is 12, and config.train.steps 12: there is nothing left"),
        ({}, -1, "--init_step is -1: it must be at least 0"),
    ],
)
def test_what_does_not_fit_the_weights_is_refused(exported, tmp_path, changes, step, message):
    with pytest.raises(UserError, match=message):
        train(config(**changes), tmp_path / "new", init_from=exported, init_step=step)
    assert not (tmp_path / "new").exists()


def test_the_rate_warms_up_over_a_thousand_steps_or_a_tenth(exported, tmp_path):
    def rewarms(steps, start):
        return find_start(tmp_path, tiny.config(train__steps=steps), exported, start).rewarm_steps

    assert rewarms(150_000, 50_000) == REWARM_STEPS == 1000
    assert rewarms(5000, 1000) == 400
    computed = tiny.config(train__steps=5000, model__dtype="bfloat16", model__remat="full")
    assert find_start(tmp_path, computed, exported, 0).rewarm_steps == 500


def test_flags_name_one_folder(run, exported, tmp_path):
    def opened(**given):
        made = dict(workdir=None, init_from=None, best=False, step=None)
        return opened_folder(SimpleNamespace(**made | given))

    assert opened(workdir=str(run)) == run
    assert opened(init_from=str(exported)) == exported
    for both in ({}, dict(workdir=str(run), init_from=str(exported))):
        with pytest.raises(UserError, match=r"give either --workdir, .* or --init_from"):
            opened(**both)
    with pytest.raises(UserError, match="--best and --step choose a checkpoint, and --init_from"):
        opened(init_from=str(exported), best=True)
    with pytest.raises(UserError, match="--best and --step choose a checkpoint, and --init_from"):
        opened(init_from=str(exported), step=2)
    with pytest.raises(UserError, match="holds no exported weights"):
        opened(init_from=str(run))


def test_sizes_are_read():
    assert [Size()("--shard_size", text) for text in ("3KiB", "512MiB", "2GiB")] == [
        3072,
        2**29,
        2**31,
    ]
    for wrong in ("2GB", "2", "1.5GiB", "-1GiB"):
        with pytest.raises(UserError, match=r"--shard_size is .*: give a number and KiB"):
            Size()("--shard_size", wrong)


def test_what_is_not_there_is_refused(run):
    with pytest.raises(UserError, match=r"has no checkpoint of step 5, but of 2, 4"):
        of_run(run, checkpoint=Checkpoint(step=5))
    with pytest.raises(UserError, match="--weights is 'raw'"):
        of_run(run, weights="raw")
