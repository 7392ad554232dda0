"""RIN computes what the official implementation computes, from the official weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import cases, largest_error, load, network_of_case, part, told

from diffusion_jax.errors import UserError
from rin_jax.official import (
    model_from_official,
    official_shapes,
    params_from_official,
    params_to_official,
)


def run(case: dict, dtype):
    """Yields (ours, golden arrays) of every call of a case; ours with what the network sowed."""
    arrays = load(case)
    model, params = network_of_case(case, arrays, dtype)
    apply = jax.jit(functools.partial(model.apply, mutable=["intermediates"]))
    for i, call in enumerate(case["calls"]):
        given = part(arrays, f"call{i}/")
        carry = model.initial_carry(len(given["x"]))
        for name, previous in (("latents", "latent_prev"), ("interface", "tape_prev")):
            if name in carry and previous in given:
                carry[name] = jnp.asarray(given[previous], dtype)
        prediction, sown = apply(
            {"params": params},
            jnp.asarray(given["x"], dtype),
            *told(call["cond"], given, dtype),
            carry,
        )
        yield prediction.output, sown["intermediates"], given


@pytest.mark.parametrize("case", cases("denoiser"))
def test_float32_parity(case):
    """1e-4 on the output tells exact GELU and LayerNorm's 1e-6 apart from their usual stand-ins."""
    learned = "sin_cos" not in str(case["kwargs"])
    output, stream = (1e-4, 5e-4) if learned else (5e-3, 5e-3)
    for prediction, sown, given in run(case, jnp.float32):
        check(prediction, sown, given, "out", output, stream)
        check_blocks(sown, given, stream)


@pytest.mark.parametrize("case", cases("denoiser"))
def test_float64_parity(case):
    with jax.enable_x64(True):
        for prediction, sown, given in run(case, jnp.float64):
            check(prediction, sown, given, "out64", 1e-9, 1e-9)


def check(prediction, sown, given, golden: str, output: float, stream: float) -> None:
    """The output and both final streams."""
    interface = sown["interface"][0][:, : given["out/tape"].shape[1]]
    assert largest_error(prediction, given[f"{golden}/x_out"]) < output
    assert largest_error(sown["latents"][0], given[f"{golden}/latent"]) < stream
    assert largest_error(interface, given[f"{golden}/tape"]) < stream


def check_blocks(sown, given, tolerance: float) -> None:
    """Latents after each read and each process, the interface after each write."""
    runs = [sown[name] for name in sorted(sown) if name.startswith("blocks_")]
    for name, golden in (
        ("latents_read", "latent_after_read"),
        ("latents", "latent_after_process"),
        ("interface", "tape_after_write"),
    ):
        ours = np.concatenate([run[name][0] for run in runs])
        for i, value in enumerate(ours):
            expected = given[f"mid/block{i}_{golden}"]
            assert largest_error(value[:, : expected.shape[1]], expected) < tolerance


ARGUMENTS = dict(
    image_height=4,
    image_width=4,
    image_channels=1,
    patch_size=2,
    seq_len=4,
    seq_stride=2,
    num_layers="1",
    latent_slots=3,
    latent_dim=8,
    latent_mlp_ratio=1,
    latent_num_heads=2,
    tape_dim=8,
    tape_mlp_ratio=1,
    rw_num_heads=2,
    time_on_latent=True,
    self_cond="latent",
)


def small_image(**changes):
    arguments = {k: v for k, v in ARGUMENTS.items() if not k.startswith("seq")}
    return model_from_official(arguments | changes)


def official_zeros(model) -> dict[str, np.ndarray]:
    """Variables of an official network, all zero."""
    return {f"tape/{name}": np.zeros(shape) for name, shape in official_shapes(model).items()}


def test_missing_extra_and_misshapen_variables_are_named():
    model = small_image()
    variables = official_zeros(model)
    bare = {name.removeprefix("tape/"): value for name, value in variables.items()}
    assert jax.tree.map(jnp.shape, params_from_official(bare, model)) == jax.tree.map(
        jnp.shape, params_from_official(variables, model)
    )
    without = {k: v for k, v in variables.items() if k != "tape/stem/bias"}
    with pytest.raises(UserError, match="lack stem/bias"):
        params_from_official(without, model)
    with pytest.raises(UserError, match="too many: other"):
        params_from_official(variables | {"tape/other": np.zeros(3)}, model)
    with pytest.raises(UserError, match=r"stem/bias has shape \(9,\)"):
        params_from_official(variables | {"tape/stem/bias": np.zeros(9)}, model)


def test_official_video_sin_cos_table_keeps_its_order():
    """The official code repeats every position over time instead of tiling the space code."""
    arguments = ARGUMENTS | {"tape_pos_encoding": "sin_cos"}
    video = model_from_official(arguments)
    assert video.interface_positions == "learned"
    variables = official_zeros(video)
    del variables["tape/tape_pos_emb/kernel/vis_pos_embedding"]  # the official network has none
    table = params_from_official(variables, video, arguments)["interface_positions"]
    assert table.shape == (8, 8)
    np.testing.assert_array_equal(table[0::2], table[1::2])
    assert np.abs(np.diff(table[0::2], axis=0)).max() > 0.1


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(cond_on_latent_n=1), "cond_on_latent_n is 1: a video's label enters with the time"),
        (dict(seq_len=6, seq_stride=4), "seq_stride is 4 and 6 frames lack 2"),
        (dict(seq_len=6, seq_cond=2, seq_stride=4), "seq_stride is 4 and 2 frames lack 2"),
        (dict(cond_decoupled_read=True), "decoupled_read is True, and no token is read beside"),
        (dict(time_on_latent=False, cond_dim=12), "condition_dim is 12 and interface_dim 8"),
        (dict(num_layers="2,x"), "num_layers is '2,x': give K of every block, as '4,4'"),
        (dict(num_layers=2), "num_layers is 2: give K of every block"),
        (dict(latent_slots=None), "latent_slots is None: it must be an integer"),
        (dict(cond_dim="12"), "cond_dim is '12': it must be an integer"),
        (dict(seq_stride=0), "seq_stride is 0: it must be at least 1"),
        (dict(time_scaling="1e4"), "time_scaling is '1e4': it must be a number"),
        (dict(conv_kernel_size=3, seq_len=5), "convolution is 3: it needs a square of tokens"),
    ],
)
def test_options_that_cannot_be_read_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        model_from_official(ARGUMENTS | changes, num_classes=3)


@pytest.mark.parametrize("name", sorted({*ARGUMENTS} - {"image_height", "seq_len"}))
def test_an_argument_that_is_missing_is_named_or_has_the_official_default(name):
    arguments = {key: value for key, value in ARGUMENTS.items() if key != name}
    if name in ("time_on_latent", "self_cond"):
        model_from_official(arguments, num_classes=3)
        return
    with pytest.raises(UserError, match=f"there is no {name}: give all arguments"):
        model_from_official(arguments, num_classes=3)


def test_networks_of_tokens_are_refused():
    with pytest.raises(UserError, match="only image and video networks"):
        model_from_official({"num_tokens": 4})


@pytest.mark.parametrize("labelled, learned", [(0, 1), (1, 1), (3, 1)])
def test_official_latents_are_learned_whatever_number_of_vectors_comes(labelled, learned):
    """The official code takes `cond_on_latent_n` off its latents even where there is no `cond`."""
    arguments = ARGUMENTS | dict(cond_on_latent_n=1)
    del arguments["seq_len"]
    model = model_from_official(arguments, 5 if labelled else 0, labelled or 1)
    assert model.learned_latents == learned
    assert model.num_latents == learned + 1 + labelled


def test_options_that_change_nothing_are_accepted():
    model = small_image(cond_dim=12, cond_decoupled_read=False, name="tape", trainable=False)
    assert official_shapes(model) == official_shapes(small_image())


@pytest.mark.parametrize("case", cases("denoiser"))
def test_official_weights_come_back_as_they_were(case):
    arrays = load(case)
    model, params = network_of_case(case, arrays, jnp.float32)
    written = params_to_official(params, model)
    assert {name: value.shape for name, value in written.items()} == official_shapes(model)
    for name, value in part(arrays, "w/tape/").items():
        np.testing.assert_array_equal(written.pop(name.split(":")[0]), value)
    # What is left is the table of a video's positions, which is no variable there.
    assert set(written) <= {"tape_pos_emb/kernel/vis_pos_embedding"}
