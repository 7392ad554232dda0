"""Inception computes the features that published FIDs are of, however images are dealt out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import load_diffussm, part, relative_error
from inception_recipe import inception_tensors
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.inception import SIDE, Inception
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.evaluation.resize import RESIZES, half_pixel, tf1
from diffusion_jax.parallel.sharding import make_mesh

TOLERANCE = 1e-4
EACH = 2  # images of each case, of two sizes
CASES = ("a_32x32", "b_80x64")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """The reference's values for the images of one case, then of the other."""
    arrays = load_diffussm("inception.npz")
    a, b = (part(arrays, f"{case}/") for case in CASES)
    images = {f"{case}/images": arrays[f"{case}/images"][:EACH] for case in CASES}
    names = a.keys() - {"images"}
    return images | {name: np.concatenate([a[name][:EACH], b[name][:EACH]]) for name in names}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "recipe.npz"
    np.savez(path, **inception_tensors())
    return load_inception(path)


@pytest.fixture(scope="module")
def ours(golden, pretrained):
    """(features of all images by 'tf1', then by 'half_pixel'; means of every block's output)."""
    images = [golden[f"{case}/images"] for case in CASES]
    x = jnp.concatenate([resize(given) for resize in (tf1, half_pixel) for given in images])

    @jax.jit
    def run(x):
        variables = {"params": pretrained.params}
        features, state = pretrained.model.apply(variables, x, capture_intermediates=True)
        blocks = {k: v["__call__"][0] for k, v in state["intermediates"].items() if k[0] in "CM"}
        # A convolution's own output is before its ReLU; a block's is not negative.
        return features, {k: jnp.mean(jax.nn.relu(v), (1, 2)) for k, v in blocks.items()}

    return jax.device_get(run(x))


def test_every_block_is_the_references(ours, golden):
    expected = part(golden, "blockmean/")
    blocks = ours[1]
    assert blocks.keys() == expected.keys()
    for name, values in expected.items():
        assert relative_error(blocks[name][: len(values)], values) < TOLERANCE, name


@pytest.mark.parametrize(
    "name, reference", [("pool", "2048"), ("spatial", "spatial"), ("logits", "logits_unbiased")]
)
def test_features_are_the_references(ours, golden, name, reference):
    expected = golden[reference]
    values = getattr(ours[0], name)
    assert values.dtype == np.float32
    assert relative_error(values[: len(expected)], expected) < TOLERANCE


def test_half_pixel_is_pytorch_fids(ours, golden):
    expected = golden["pytorch_fid_2048"]
    assert relative_error(ours[0].pool[len(expected) :], expected) < TOLERANCE
    assert relative_error(golden["2048"], expected) > 100 * TOLERANCE


def test_tf1_resizes_as_the_reference_does(golden):
    for i, case in enumerate(CASES):
        resized = tf1(golden[f"{case}/images"][:1]) * 128 + 128
        assert relative_error(resized[:, ::6, ::6], golden["resized_sub"][i : i + 1]) < 1e-6


@pytest.mark.parametrize("height, width", [(700, 350), (SIDE, SIDE), (1, 2)])
@pytest.mark.parametrize(
    "resize, source, normalised",
    [
        ("tf1", lambda i, n: i * n / SIDE, lambda x: (x - 128) / 128),
        ("half_pixel", lambda i, n: (i + 0.5) * n / SIDE - 0.5, lambda x: 2 * x / 255 - 1),
    ],
)
def test_no_size_is_antialiased(resize, source, normalised, height, width):
    """Linear interpolation along each axis, of no more than two pixels, whatever is left out."""
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 1), dtype=np.uint8)
    expected = images[0, :, :, 0].astype(float)
    i = np.arange(SIDE)
    for n in (height, width):
        points = source(i, n)
        expected = np.array([np.interp(points, np.arange(n), column) for column in expected.T])
    ours = jax.jit(RESIZES[resize])(images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours[0, :, :, 0], normalised(expected), atol=1e-4)


@pytest.mark.parametrize("height, width", [(8, 8), (64, 100), (SIDE, SIDE), (300, 700), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_clean_is_clean_fids(height, width, channels):
    """Pillow's bicubic filter on each channel as floats, clipped, then (x - 128) / 128."""
    images = np.random.default_rng(0).integers(0, 2, (2, height, width, channels), np.uint8) * 255
    expected = [
        [
            Image.fromarray(channel.astype(np.float32)).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
            for channel in np.moveaxis(image, -1, 0)
        ]
        for image in images
    ]
    expected = np.moveaxis(np.clip(np.stack(expected), 0, 255), 1, -1)
    ours = jax.jit(RESIZES["clean"])(images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours * 128 + 128, expected, atol=1e-3)


@pytest.mark.parametrize("height, width", [(8, 8), (64, 100), (512, 400)])
def test_clean_is_what_clean_fid_computes(height, width):
    resize = pytest.importorskip("cleanfid.resize", reason="clean-fid is not installed")
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    expected = np.stack([resize.build_resizer("clean")(image) for image in images])
    np.testing.assert_allclose(RESIZES["clean"](images) * 128 + 128, expected, atol=1e-3)


def test_no_product_is_rounded():
    """A TPU would take bfloat16 and some GPUs TF32, unless they are told."""
    x = jnp.zeros((1, SIDE, SIDE, 3))
    params = jax.eval_shape(Inception().init, jax.random.key(0), x)
    jaxpr = jax.make_jaxpr(Inception().apply)(params, x)
    precisions = [e.params["precision"] for e in jaxpr.eqns if "precision" in e.params]
    assert precisions == 95 * [(jax.lax.Precision.HIGHEST,) * 2]


def test_features_do_not_depend_on_the_batch_or_the_devices(pretrained, golden):
    order = [0, 1, 0]
    images = golden["b_80x64/images"][order]
    grey = images[:1, :, :, :1]
    images = np.concatenate([images, grey.repeat(3, axis=3)])
    one = make_extractor(pretrained, make_mesh(1), "tf1", at_once=3)(images)
    extract = make_extractor(pretrained, make_mesh(), "tf1", at_once=1)
    eight, alone = extract(jnp.asarray(images)), extract(grey)
    references = ("2048", "spatial", "logits_unbiased")
    for a, b, c, reference in zip(one, eight, alone, references, strict=True):
        assert {type(a), type(b), type(c)} == {np.ndarray}
        assert relative_error(b, a) < TOLERANCE
        assert relative_error(c, a[3:]) < TOLERANCE
        assert relative_error(a[:3], golden[reference][EACH:][order]) < TOLERANCE


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((1, 8, 8, 3), np.float32), "images are float32: give uint8"),
        (np.zeros((8, 8, 3), np.uint8), r"images have shape \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"images have shape \(1, 8, 8, 4\): .* 1 for grey"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"images have shape \(0, 8, 8, 3\)"),
    ],
)
def test_other_arrays_are_refused(pretrained, images, message):
    with pytest.raises(UserError, match=message):
        make_extractor(pretrained, make_mesh(), "tf1")(images)


def test_unknown_resizes_are_refused(pretrained):
    with pytest.raises(UserError, match="resize is 'tf': did you mean tf1"):
        make_extractor(pretrained, make_mesh(), "tf")
