"""The autoencoder computes what diffusers' AutoencoderKL computes, one image apart from another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import load_diffussm, part, relative_error

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.moments import Moments, from_latents, to_latents, unpack
from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.autoencoder.weights import params_from_diffusers, sizes_of
from diffusion_jax.errors import UserError
from diffusion_jax.parallel.sharding import by_example, make_mesh, replicated

TOLERANCE = 1e-4
TINY = Autoencoder(block_channels=(4, 8), layers_per_block=1, latent_channels=2, groups=2)

# Ours -> where the golden file has what comes out of it.
ENCODER = {
    "in": "conv_in",
    "level_0_down": "down_blocks.0",
    "level_1_down": "down_blocks.1",
    "level_2_down": "down_blocks.2",
    "level_3_block_1": "down_blocks.3",
    "middle": "mid_block",
    "out": "conv_out",
}
DECODER = {
    "in": "conv_in",
    "middle": "mid_block",
    "level_0_up": "up_blocks.0",
    "level_1_up": "up_blocks.1",
    "level_2_up": "up_blocks.2",
    "level_3_block_2": "up_blocks.3",
}


def load() -> dict[str, np.ndarray]:
    """The golden arrays, images and latents NHWC."""
    arrays = load_diffussm("vae_small.npz")
    return {
        name: value if name.startswith("sd/") or value.ndim < 4 else np.moveaxis(value, 1, -1)
        for name, value in arrays.items()
    }


@functools.cache
def golden():
    """(arrays, model, params) of the reference's narrow network."""
    arrays = load()
    if "x" not in arrays:
        pytest.skip("the whole vae_small.npz is not in ../shared/golden")
    tensors = part(arrays, "sd/")
    model = Autoencoder(**sizes_of(tensors))
    return arrays, model, params_from_diffusers(tensors, model)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(model, params, x, method: str):
    """(output, the outputs of every layer of that half)."""
    output, captured = model.apply(
        {"params": params}, x, method=method, capture_intermediates=True, mutable=["intermediates"]
    )
    return output, captured["intermediates"][f"{method}r"]


def check_layers(ours, arrays, half: str, names: dict[str, str]):
    """The golden file has the first image's, every fourth row and column of the larger ones."""
    for name, theirs in names.items():
        expected = arrays[f"act_sub4/{half}.{theirs}"]
        (value,) = ours[name]["__call__"]
        step = 1 if value.shape[1] == 8 else 4
        assert relative_error(value[:1, ::step, ::step], expected) < TOLERANCE, name


def test_moments_of_images():
    arrays, model, params = golden()
    moments, layers = run(model, params, arrays["x"], "encode")
    check_layers(layers, arrays, "enc", ENCODER)
    assert relative_error(moments.pack(), arrays["moments"]) < TOLERANCE
    for digits in ("", "64"):
        assert relative_error(moments.mean, arrays["mean" + digits]) < TOLERANCE
        assert relative_error(moments.log_variance, arrays["logvar" + digits]) < TOLERANCE
    sample = moments.sample(arrays["posterior_noise"])
    assert relative_error(sample, arrays["posterior_sample"]) < TOLERANCE


def test_images_of_latents():
    arrays, model, params = golden()
    mean, layers = run(model, params, arrays["mean"], "decode")
    check_layers(layers, arrays, "dec", DECODER)
    z, _ = run(model, params, arrays["z"], "decode")
    for digits in ("", "64"):
        assert relative_error(mean, arrays["recon_from_mean" + digits]) < TOLERANCE
        assert relative_error(z, arrays["decode_z" + digits]) < TOLERANCE


def test_an_image_that_is_nearly_flat():
    """Its variance is of the size of GroupNorm's epsilon."""
    arrays, model, params = golden()
    moments, _ = run(model, params, arrays["x_lowcontrast"], "encode")
    for digits in ("", "64"):
        assert relative_error(moments.pack(), arrays["moments_lowcontrast" + digits]) < TOLERANCE
    images, _ = run(model, params, moments.mean, "decode")
    assert relative_error(images, arrays["recon_lowcontrast"]) < TOLERANCE


def test_posterior():
    arrays = part(load(), "dgd/")
    moments = unpack(arrays["parameters"])
    np.testing.assert_array_equal(moments.mean, arrays["mean"])
    np.testing.assert_array_equal(moments.log_variance, arrays["logvar"])
    spread = moments.sample(jnp.ones_like(moments.mean)) - moments.mean
    assert relative_error(spread, arrays["std"]) < TOLERANCE
    assert relative_error(moments.sample(arrays["noise"]), arrays["sample"]) < TOLERANCE


def test_moments_are_stored_and_read_unchanged():
    arrays = part(load(), "dgd/")
    moments = Moments(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["logvar"]))
    np.testing.assert_array_equal(unpack(moments.pack()), moments)
    halves = unpack(np.asarray(moments.pack(), np.float16))
    assert halves.mean.dtype == halves.log_variance.dtype == jnp.float32


def test_latents_have_the_published_scale():
    z = jnp.asarray([1.0, -3.0])
    np.testing.assert_allclose(to_latents(z), [0.18215, -0.54645], rtol=1e-6)
    np.testing.assert_allclose(from_latents(jnp.asarray([0.18215])), [1.0], rtol=1e-6)


def test_latents_of_other_autoencoders_are_scaled_and_shifted():
    """FLUX's, as its pipeline computes them: (z - shift_factor) * scaling_factor."""
    z, flux = jnp.asarray([1.0, -3.0]), Scaling(0.3611, 0.1159)
    latents = to_latents(z, flux)
    np.testing.assert_allclose(latents, [0.31924851, -1.12515149], rtol=1e-6)
    np.testing.assert_allclose(from_latents(latents, flux), z, rtol=1e-6)


@functools.cache
def tiny_params():
    return jax.jit(TINY.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]


@functools.partial(jax.jit, static_argnums=0)
def both_ways(model, params, images):
    moments = model.apply({"params": params}, images, method="encode")
    return moments, model.apply({"params": params}, moments.mean, method="decode")


def test_a_batch_split_over_devices_stays_split():
    mesh = make_mesh()
    whole, split = replicated(mesh), by_example(mesh)
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), tiny_params()
    )
    images = jax.ShapeDtypeStruct((16, 8, 12, 3), jnp.float32, sharding=split)
    compiled = both_ways.lower(TINY, params, images).compile()
    for sharding in jax.tree.leaves(compiled.output_shardings):
        assert sharding.is_equivalent_to(split, 4)
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-", "reduce-scatter"):
        assert collective not in compiled.as_text()


def test_an_image_does_not_depend_on_its_batch():
    images = jax.random.uniform(jax.random.key(1), (3, 8, 12, 3), minval=-1, maxval=1)
    together = both_ways(TINY, tiny_params(), images)
    assert together[0].mean.shape == together[0].log_variance.shape == (3, 4, 6, 2)
    assert together[1].shape == images.shape
    alone = both_ways(TINY, tiny_params(), images[1:2])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1:2], b, rtol=1e-5, atol=1e-5), together, alone
    )


def test_bfloat16_moves_results_by_a_few_per_cent():
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3), minval=-1, maxval=1)
    exact = both_ways(TINY, tiny_params(), images)
    rounded = both_ways(TINY.clone(dtype=jnp.bfloat16), tiny_params(), images)
    for ours, expected in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
        assert ours.dtype == jnp.float32
        assert 0 < relative_error(ours, expected) < 0.05


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((1, 4, 4, 3), np.uint8), "images are uint8"),
        (np.zeros((1, 4, 5, 3), np.float32), "images are 4 x 5: .* multiples of 2"),
    ],
)
def test_images_that_cannot_be_encoded_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        TINY.apply({"params": tiny_params()}, images, method="encode")


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(UserError, match=r"block_channels is \(32, 48\): .* groups = 32"):
        Autoencoder(block_channels=(32, 48))
    with pytest.raises(UserError, match="latent_channels is 0"):
        Autoencoder(latent_channels=0)
