"""Latents: encoded once, drawn anew at every step, decoded when they are looked at."""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.numpy import load_file, save_file

from diffusion_jax.autoencoder.decoding import make_decoder
from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.moments import Moments
from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.autoencoder.weights import PLAIN, layout, load_safetensors
from diffusion_jax.data.prepared import Prepared
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.given import Edit
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.training import train
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.training.batches import split_batch
from launch import encode_latents

MODEL = Autoencoder(block_channels=(32, 32), layers_per_block=1)  # f = 2
COUNT, SIDE = 11, 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of `MODEL` in a file."""
    path = tmp_path_factory.mktemp("weights") / "vae.safetensors"
    rng = np.random.default_rng(0)
    tensors = {
        name: (0.05 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in layout(MODEL).shapes().items()
    }
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven pictures of two classes, by class and name."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        pixels = np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        path = folder / f"class{index // 6}" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def encode(photos, weights, out, **changes):
    options = dict(
        source="folder",
        path=str(photos),
        split="train",
        weights=str(weights),
        out=str(out),
        size=SIDE,
        crop="box_halving",
        batch_size=8,
        on_bad_record="stop",
    )
    encode_latents.main(SimpleNamespace(**options | changes))
    return out


@pytest.fixture(scope="module")
def encoded(photos, weights, tmp_path_factory):
    return encode(photos, weights, tmp_path_factory.mktemp("latents") / "set")


def test_stored_moments_are_those_of_each_image_and_its_mirror_image(encoded, photos, weights):
    model, params, _ = load_safetensors(weights)
    records = Prepared(encoded, "train")
    assert (len(records), records.class_names) == (COUNT, ("class0", "class1"))
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.glob("*/*.png"))])

    @jax.jit
    def packed(images):
        scaled = images.astype(jnp.float32) / 255 * 2 - 1
        return model.apply({"params": params}, scaled, method="encode").pack()

    for field, expected in (("moments", images), ("moments_flipped", images[:, :, ::-1])):
        stored = np.stack([records.record(index)[field] for index in range(COUNT)])
        np.testing.assert_allclose(stored, packed(expected), atol=1e-5)
    assert [records.record(index)["label"] for index in range(COUNT)] == [0] * 6 + [1] * 5


def test_a_bad_image_is_left_out_and_its_batch_is_not(photos, encoded, weights, tmp_path):
    broken = tmp_path / "photos"
    for path in photos.glob("*/*.png"):
        copy = broken / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes()[: 99 if path.stem == "03" else None])
    with pytest.raises(UserError, match=r"class0/03.png: cannot be decoded"):
        encode(broken, weights, tmp_path / "set")
    records = Prepared(encode(broken, weights, tmp_path / "set", on_bad_record="skip"), "train")
    whole = Prepared(encoded, "train")
    for ours, theirs in ((2, 2), (3, 4), (9, 10)):
        expected = whole.record(theirs)["moments"]
        np.testing.assert_allclose(records.record(ours)["moments"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(size=15), "--size is 15: it must be a multiple of 2"),
    ],
)
def test_what_cannot_be_encoded_is_refused(photos, weights, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        encode(photos, weights, tmp_path / "set", **changes)


def test_images_that_are_not_finite_once_decoded_are_named(weights):
    """Row 2 of the latents is sample 7; a decoder that has a NaN spoils every sample."""
    pretrained = load_safetensors(weights)
    latents = np.zeros((3, 4, 4, 4), np.float32)
    indices = np.array([5, 6, 7])
    latents[2, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"sample 7 is not finite \(so are 1 of 3\)"):
        make_decoder(pretrained, make_mesh(1))(latents, indices)
    params = jax.tree.map(lambda values: np.full_like(values, np.nan), pretrained.params)
    with pytest.raises(UserError, match=r"sample 5 is not finite \(so are 3 of 3\)"):
        make_decoder(pretrained._replace(params=params), make_mesh(1))(latents * 0, indices)


def test_training_draws_latents_from_the_posterior():
    """Mean and spread over many keys; a key decides its draw alone."""
    mean, log_variance = jnp.full((1, 2, 2, 4), 3.0), jnp.full((1, 2, 2, 4), -2.0)
    stored = Moments(mean, log_variance).pack()
    keys = jax.random.split(jax.random.key(0), 4096)
    batch = {"moments": jnp.broadcast_to(stored, (4096, *stored.shape[1:]))}
    x0, _ = split_batch(batch, keys, 1.0, 0)
    np.testing.assert_allclose(x0.mean(), 0.18215 * 3, rtol=1e-3)
    np.testing.assert_allclose(x0.std(), 0.18215 * np.exp(-1), rtol=0.02)
    one, _ = split_batch({"moments": stored}, keys[7:8], 1.0, 0)
    np.testing.assert_array_equal(one[0], x0[7])
    shifted, _ = split_batch(batch, keys, 1.0, 0, Scaling(0.5, 2.0))
    np.testing.assert_allclose(shifted, 0.5 * (x0 / 0.18215 - 2.0), rtol=1e-4, atol=1e-5)


def config(encoded, weights="", **changes):
    return tiny.diffussm(
        data__name="tfds",
        data__path=str(encoded),
        data__flip=True,
        autoencoder__name="stable_diffusion",
        autoencoder__weights=str(weights),
        model__geometry__channels=4,
        model__num_classes=2,
        objective__clip_x0=False,
        **changes,
    )


def test_training_and_sampling(encoded, weights, tmp_path):
    train(config(encoded, weights, train__steps=3, train__grid_every=3), tmp_path / "eight")
    train(config(encoded, train__steps=3), tmp_path / "one", make_mesh(1))
    curves = [
        [record["loss"] for record in tiny.curve(tmp_path / name)] for name in ("eight", "one")
    ]
    np.testing.assert_allclose(*curves, rtol=1e-5)
    grid = np.asarray(Image.open(tmp_path / "eight" / "grids" / "00000003.png"))
    assert grid[-10 * 34 :].shape == (10 * 34, 10 * 34, 3)  # 16 pixels enlarged to 32
    request = dict(num=5, labels="", seed=0, batch_size=8)
    out = sample(config(encoded, weights), tmp_path / "eight", tmp_path / "samples", request)
    with np.load(out / "samples.npz") as archive:
        assert archive["arr_0"].shape == (5, SIDE, SIDE, 3)
        assert archive["arr_0"].std() > 0
    given = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    redraw = np.zeros((SIDE, SIDE), bool)
    redraw[3:8, 5:9] = True
    edit = Edit(given, None, redraw, noise_level=1.0, resample=1)
    arguments = (tmp_path / "eight", tmp_path / "inpainted", request)
    out = sample(config(encoded, weights), *arguments, edit=edit)
    with np.load(out / "samples.npz") as archive:
        drawn, expected = archive["arr_0"], given[np.arange(5) % 2]
    np.testing.assert_array_equal(drawn[:, ~redraw], expected[:, ~redraw])
    assert (drawn[:, redraw] != expected[:, redraw]).mean() > 0.9


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(train__grid_every=1), "autoencoder.weights is empty, and samples are latents"),
        (dict(model__num_classes=1), "has 2 classes, and config.model.num_classes is 1"),
        (dict(model__geometry__height=4), r"examples have shape \(8, 8, 8\), and config.model.geo"),
        (dict(autoencoder__name="none"), "of kind latent, and the model wants image"),
        (dict(objective__input_scale=0.5), "input_scale"),
    ],
)
def test_mistakes_are_named_before_anything_is_compiled(encoded, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        made = config(encoded)
        made.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
        train(made, tmp_path)


@pytest.fixture(scope="module")
def other(weights, tmp_path_factory):
    """A folder of the same weights, whose config.json has another scaling."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copy(weights, folder / PLAIN)
    settings = {"_class_name": "AutoencoderKL", "scaling_factor": 1.5305, "shift_factor": 0.0609}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_latents_keep_the_scaling_of_their_autoencoder(photos, weights, other, encoded, tmp_path):
    """It goes from config.json to the data, from there to the run, and must be the decoder's."""
    data = encode(photos, other, tmp_path / "set")
    for field in ("moments", "moments_flipped"):  # which no scaling has changed
        ours, plain = (Prepared(each, "train").record(3)[field] for each in (data, encoded))
        np.testing.assert_array_equal(ours, plain)
    assert Prepared(encoded, "train").scaling is None
    assert Prepared(data, "train").scaling == Scaling(1.5305, 0.0609)
    assert encode(photos, other, data) == data
    with pytest.raises(UserError, match=r"was begun with source.norm_num_groups = 32"):
        encode(photos, weights, data)

    made = config(data, other, train__steps=1, train__grid_every=1, train__grid_size=2)
    train(made, tmp_path / "run")
    train(made, tmp_path / "run")  # goes on
    found = build(read_workdir(tmp_path / "run"))
    assert found.scaling == Scaling(1.5305, 0.0609)
    assert build(made).scaling == Scaling(0.18215, 0.0)
    train(config(encoded, train__steps=1), tmp_path / "plain")
    ours, plain = (tiny.losses(tmp_path / name) for name in ("run", "plain"))
    assert abs(ours[0] / plain[0] - 1) > 0.01

    before = json.loads((tmp_path / "plain" / "config.json").read_text())
    del before["autoencoder"]["scaling"]  # as runs were written that began without it
    (tmp_path / "plain" / "config.json").write_text(json.dumps(before))
    train(config(encoded, train__steps=2), tmp_path / "plain")
    assert len(tiny.losses(tmp_path / "plain")) == 2

    request = dict(num=1, labels="", seed=0, batch_size=8)
    saved = read_workdir(tmp_path / "run")
    out = sample(saved, tmp_path / "run", None, request)
    retrained = load_file(other / PLAIN)
    retrained["decoder.conv_out.bias"] += 1
    saved.autoencoder.weights = str(shutil.copytree(other, tmp_path / "retrained"))
    save_file(retrained, tmp_path / "retrained" / PLAIN)
    with pytest.raises(UserError, match="holds samples of another request"):
        sample(saved, tmp_path / "run", out, request)
    saved.autoencoder.weights = str(weights)
    message = r"has scaling_factor 0.18215 and .*, and the latents of this run have .* 1.5305 and"
    with pytest.raises(UserError, match=message):
        sample(saved, tmp_path / "run", tmp_path / "samples", request | {"seed": 1})
    assert not (tmp_path / "samples").exists()


def test_a_scaling_that_is_not_the_datas_is_refused(photos, other, tmp_path):
    data = encode(photos, other, tmp_path / "set")
    made = config(data, autoencoder__scaling=(0.18215, 0.0))
    message = r"have scaling_factor 1.5305 and shift_factor 0.0609, and this run's .* 0.18215 and"
    with pytest.raises(UserError, match=message):
        train(made, tmp_path / "run")
    for scaling in ((0.18215,), (0.0, 0.0), (np.nan, 0.0), (1.0, "1")):
        made.autoencoder.scaling = scaling
        with pytest.raises(UserError, match=r"autoencoder.scaling"):
            train(made, tmp_path / "run")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["request"]["source.scaling_factor"] = "large"
    (data / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest.json: scaling_factor is 'large'"):
        train(config(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_line_says_which_settings_are_assumed(photos, weights, other, tmp_path, capsys):
    encode(photos, weights, tmp_path / "plain")
    assert capsys.readouterr().out.count("assuming Stable Diffusion's norm_num_groups 32") == 1
    encode(photos, other, tmp_path / "set")
    assert "assuming" not in capsys.readouterr().out


def test_weights_of_other_latents_are_refused(encoded, weights):
    made = config(encoded, weights)
    made.model.geometry.channels = 3
    with pytest.raises(UserError, match=r"has 4 latent channels, and model.geometry.channels is 3"):
        build(made).sampler(make_mesh(), 0)
