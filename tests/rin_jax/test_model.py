"""What holds of the network whatever its weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion_jax.denoiser import NULL_LABEL, Condition, NoiseLevel
from diffusion_jax.errors import UserError
from rin_jax import RIN, Images, Tokens, Video
from rin_jax.convolution import InterfaceConvolution
from rin_jax.layers import Dropout

SMALL = dict(
    num_latents=5,
    process_layers=(2, 1),
    latent_dim=16,
    latent_heads=2,
    latent_mlp_ratio=2,
    interface_dim=12,
    interface_mlp_ratio=2,
    read_write_heads=2,
    num_classes=3,
)
IMAGES = Images(height=4, width=6, channels=1, patch_size=2)
SQUARE = Images(height=4, width=4, channels=1, patch_size=2)
BESIDE = dict(time_on="interface", condition_on="interface")  # tokens that are only read


def make(geometry=IMAGES, perturb=0.0, **changes):
    """(model, params, inputs of a batch of two); `perturb` moves all weights off their start."""
    model = RIN(geometry, **(SMALL | changes))
    x = jax.random.normal(jax.random.key(1), (2, *geometry.sample_shape))
    frames = getattr(geometry, "conditioning_frames", 0)
    condition = Condition(
        labels=jnp.array([0, 2]),
        frames=jax.random.normal(jax.random.key(2), (2, frames, *geometry.sample_shape[1:])),
    )
    inputs = (x, NoiseLevel(jnp.array([0.3, 0.9])), condition, model.initial_carry(2))
    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), *inputs))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [
        leaf + perturb * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return model, jax.tree.unflatten(tree, moved), inputs


def apply(model, params, inputs, **kwargs):
    return jax.jit(lambda *args: model.apply({"params": params}, *args, **kwargs))(*inputs)


@pytest.mark.parametrize(
    "geometry",
    [
        IMAGES,
        Images(height=3, width=1, channels=2, patch_size=1),
        Video(5, 4, 4, 1, patch_size=2, frames_per_patch=2),
        Video(5, 4, 4, 1, patch_size=2, frames_per_patch=2, conditioning_frames=2),
        Tokens(count=7, channels=3),
    ],
    ids=["images", "one-column", "odd-video", "conditioned-video", "tokens"],
)
@pytest.mark.parametrize("positions", ["learned", "sin_cos_plus_learned"])
def test_output_is_shaped_like_the_input(geometry, positions):
    model, params, inputs = make(geometry, interface_positions=positions)
    output, carry = apply(model, params, inputs)
    assert output.shape == inputs[0].shape
    assert carry["latents"].shape == (2, 5, 16)


def test_a_new_network_ignores_its_carry_and_a_trained_one_does_not():
    for perturb, same in ((0.0, True), (0.1, False)):
        model, params, (*inputs, carry) = make(perturb=perturb)
        other = jax.tree.map(lambda part: part + 1, carry)
        first = apply(model, params, (*inputs, carry)).output
        second = apply(model, params, (*inputs, other)).output
        assert bool((first == second).all()) == same


@pytest.mark.parametrize("place", ["latents", "time"])
def test_a_dropped_label_is_zeros(place):
    """It leaves the bias of its token, or nothing in the hidden layer of the time's MLP."""
    model, params, (x, noise, condition, carry) = make(perturb=0.1, condition_on=place)
    dropped = Condition(labels=jnp.array([NULL_LABEL, NULL_LABEL]))
    zeros = Condition(tokens=jnp.zeros((2, 1, 3)))
    ours = apply(model, params, (x, noise, dropped, carry)).output
    np.testing.assert_array_equal(ours, apply(model, params, (x, noise, zeros, carry)).output)
    given = apply(model, params, (x, noise, condition, carry)).output
    assert jnp.abs(ours - given).max() > 1e-3


def test_conditioning_frames_change_the_prediction():
    geometry = Video(4, 4, 4, 1, patch_size=2, frames_per_patch=2, conditioning_frames=2)
    model, params, (x, noise, condition, carry) = make(geometry, perturb=0.1)
    first = apply(model, params, (x, noise, condition, carry)).output
    other = condition._replace(frames=condition.frames + 1)
    assert jnp.abs(first - apply(model, params, (x, noise, other, carry)).output).max() > 1e-3


def test_token_sets_without_positions_are_sets():
    """Permuting the tokens permutes the output, once all positions are the same."""
    model, params, (x, *rest) = make(Tokens(count=6, channels=3), perturb=0.1)
    params["interface_positions"] = jnp.zeros_like(params["interface_positions"])
    order = jnp.array([3, 1, 5, 0, 2, 4])
    permuted = apply(model, params, (x[:, order], *rest)).output
    np.testing.assert_allclose(
        permuted, apply(model, params, (x, *rest)).output[:, order], atol=1e-5
    )


@pytest.mark.parametrize(
    "rates",
    [
        dict(dropout=0.5, drop_path=0.5),
        dict(attention_dropout=0.5),
        dict(convolution=3, convolution_dropout=0.5),
    ],
    ids=lambda rates: "-".join(rates),
)
def test_dropout_acts_in_training_only(rates):
    model, params, inputs = make(SQUARE, perturb=0.1, **rates)
    still = apply(model, params, inputs).output
    np.testing.assert_array_equal(still, apply(model, params, inputs).output)
    draws = [
        apply(model, params, inputs, train=True, rngs={"dropout": jax.random.key(k)}).output
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert jnp.abs(draws[0] - draws[2]).max() > 1e-3


def test_dropout_drops_its_rate_and_keeps_the_mean():
    x = jnp.ones((256, 512))
    y = Dropout(0.1, train=True).apply({}, x, rngs={"dropout": jax.random.key(0)})
    dropped = 6554 / 65536
    assert set(np.unique(y)) == {0, np.float32(1 / (1 - dropped))}
    sigma = math.sqrt(dropped * (1 - dropped) / x.size)
    assert abs(np.mean(y == 0) - dropped) < 4 * sigma
    assert not Dropout(1.0, train=True).apply({}, x).any()


@pytest.mark.parametrize(
    "change", [dict(remat="dots"), dict(remat="full"), dict(unroll=True), dict(attention="xla")]
)
def test_how_it_is_computed_changes_no_gradient(change):
    """To rounding: in float64, but for the attention whose softmax is float32 whatever it gets."""
    is_other = "attention" in change
    dtypes = {} if is_other else dict(dtype=jnp.float64, param_dtype=jnp.float64)

    def gradient(**change):
        model, params, inputs = make(perturb=0.1, process_layers=(2, 2), **dtypes, **change)

        def loss(params):
            return jnp.mean(jnp.square(model.apply({"params": params}, *inputs).output))

        return jax.jit(jax.grad(loss))(params)

    rtol, atol = (1e-5, 1e-6) if is_other else (1e-12, 1e-14)
    with jax.enable_x64(not is_other):
        pairs = zip(*map(jax.tree.leaves, (gradient(**change), gradient())), strict=True)
        for ours, plain in pairs:
            np.testing.assert_allclose(ours, plain, rtol, atol)


def test_bfloat16_computes_near_float32_with_float32_parameters():
    model, params, inputs = make(perturb=0.02)
    half, half_params, _ = make(perturb=0.02, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half_params)} == {jnp.dtype("float32")}
    output, carry = apply(half, params, (*inputs[:3], half.initial_carry(2)))
    assert output.dtype == carry["latents"].dtype == jnp.bfloat16
    full = apply(model, params, inputs).output
    assert jnp.abs(output.astype(jnp.float32) - full).max() < 0.05 * jnp.abs(full).max()


def test_read_only_block_holds_no_process_and_no_write():
    _, params, _ = make(process_layers=(1, 0))
    assert set(params["blocks_1"]) == {"read"}


def test_tokens_that_are_read_alone_have_their_own_width_and_projections():
    changes = BESIDE | dict(decoupled_read=True, condition_dim=8)
    _, params, _ = make(**changes)
    read = params["blocks_0"]["read_condition"]["attention"]
    assert read["key_kernel"].shape == (1, 8, 2, 4)
    assert params["blocks_0"]["read"]["attention"]["key_kernel"].shape == (1, 12, 2, 6)
    assert params["condition"]["kernel"].shape == (3, 8)
    assert params["time"]["out"]["kernel"].shape == (8, 8)


def test_a_label_joins_the_hidden_layer_of_the_time():
    _, params, _ = make(condition_on="time")
    assert "condition" not in params
    assert params["latent_positions"].shape == (4, 16)  # all of the latents but the time's
    assert params["time"]["in"]["kernel"].shape == (4, 16)
    assert params["time"]["out"]["kernel"].shape == (16 + 3, 16)


def test_a_new_convolution_changes_next_to_nothing():
    inputs = (jax.random.normal(jax.random.key(0), (2, 5, 12)),)
    layer = InterfaceConvolution(3, 4, 0.0, False)
    params = layer.init(jax.random.key(1), *inputs)
    output = layer.apply(params, *inputs)
    np.testing.assert_allclose(output, inputs[0], atol=1e-4)
    np.testing.assert_array_equal(output[:, 4:], inputs[0][:, 4:])  # beyond the square


@pytest.mark.parametrize(
    "changes",
    [
        BESIDE | dict(decoupled_read=True, condition_dim=8, convolution=3),
        dict(condition_on="time"),
    ],
    ids=["decoupled", "time"],
)
def test_gradients_reach_every_parameter_of_the_options(changes):
    video = Video(4, 4, 4, 1, patch_size=2, frames_per_patch=1)
    model, params, (*inputs, carry) = make(video, perturb=0.1, process_layers=(1,), **changes)
    carry = {"latents": jax.random.normal(jax.random.key(4), carry["latents"].shape)}

    def loss(params):
        return jnp.mean(jnp.square(model.apply({"params": params}, *inputs, carry).output))

    gradients = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params))
    assert len(gradients) == len(jax.tree.leaves(params))
    for path, gradient in gradients:
        assert jnp.isfinite(gradient).all(), path
        if path[-1].key != "key_bias":  # shifts all logits alike
            assert jnp.abs(gradient).max() > 0, path


def test_heads_need_not_divide_the_width():
    model, params, inputs = make(latent_heads=3, read_write_heads=5)
    assert params["blocks_0"]["read"]["attention"]["query_kernel"].shape == (1, 16, 5, 2)
    apply(model, params, inputs)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_latents=2), "num_latents is 2, and time and class take 2: it must be at least 3"),
        (dict(time_on="latent"), "time_on is 'latent': did you mean latents"),
        (dict(self_conditioning="tape"), "self_conditioning is 'tape'"),
        (dict(latent_heads=17), "latent_heads is 17, above the attention width 16"),
        (dict(read_write_heads=0), "read_write_heads is 0: it must be at least 1"),
        (dict(process_layers=()), r"process_layers is \(\)"),
        (dict(process_layers=(2, -1)), r"process_layers is \(2, -1\)"),
        (dict(latent_dim=18), "the time token has width 18"),
        (dict(interface_dim=15, interface_positions="sin_cos"), "interface_dim is 15: sin-cos"),
        (dict(dropout=1.5), "dropout is 1.5: it is a rate"),
        (dict(remat="some"), "remat is 'some'"),
        (dict(attention="flash"), "attention is 'flash'"),
        (dict(condition_on="times"), "condition_on is 'times': did you mean time"),
        (dict(condition_on="time", condition_tokens=2), "and condition_tokens 2: only one joins"),
        (dict(decoupled_read=True), "decoupled_read is True, and no token is read beside"),
        (
            BESIDE | dict(decoupled_read=True, writable_condition=True),
            "decoupled_read is True, and no token is read beside",
        ),
        (BESIDE | dict(condition_dim=16), "condition_dim is 16 and interface_dim 12: tokens that"),
        (
            BESIDE | dict(condition_dim=10, decoupled_read=True),
            "the time token has width 10",
        ),
        (
            BESIDE | dict(condition_dim=4, decoupled_read=True, read_write_heads=5),
            "read_write_heads is 5, above the attention width 4",
        ),
        (dict(condition_dim=-1), "condition_dim is -1: it must be at least 0"),
        (dict(project_condition=False), "project_condition is False and the condition 3 wide"),
        (dict(convolution=3), "convolution is 3: it needs a square of tokens, and 6 are none"),
        (dict(attention_dropout=0.1, attention="xla"), "attention_dropout is 0.1 and attention"),
        (dict(convolution_dropout=-0.1), "convolution_dropout is -0.1: it is a rate"),
        (dict(attention="cudnn"), "attention is 'cudnn' and dtype float32: cuDNN's wants bfloat16"),
    ],
)
def test_what_cannot_work_is_refused_on_construction(changes, message):
    with pytest.raises(UserError, match=message):
        RIN(IMAGES, **(SMALL | changes))


def test_a_convolution_wants_groups_of_equal_size():
    with pytest.raises(UserError, match="convolution is 3 and interface_dim 18"):
        RIN(SQUARE, **(SMALL | dict(convolution=3, interface_dim=18)))


@pytest.mark.parametrize(
    "geometry, message",
    [
        (lambda: Images(8, 9, 3, 2), "patch_size 2 does not divide width 9: choose one of"),
        (lambda: Images(8, 0, 3, 2), "width is 0: it must be at least 1"),
        (lambda: Video(4, 8, 8, 3, 2, 2, 4), "conditioning_frames is 4 of 4 frames"),
        (lambda: Tokens(0, 3), "count is 0"),
    ],
)
def test_geometries_that_cannot_work_are_refused(geometry, message):
    with pytest.raises(UserError, match=message):
        geometry()
