"""The network: its embeddings are DiT's, its parameters the published sizes, its mistakes named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from golden import load_diffussm, part, relative_error

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.errors import UserError
from diffussm_jax import DiffuSSM, Images, Tokens, Video
from diffussm_jax.embeddings import ConditionEmbedding, position_table, timestep_code

IMAGES = Images(4, 6, 3, patch_size=1)


def make(geometry=IMAGES, expansion=2, **options):
    options = dict(dim=12, layers=2, state_size=4, num_classes=5) | options
    return DiffuSSM(geometry, expansion=expansion, **options)


def inputs(model, labels=(1, 4)):
    """(x_t, noise, condition, carry) of two examples."""
    x = jax.random.normal(jax.random.key(0), (2, *model.geometry.sample_shape))
    noise = NoiseLevel(jnp.array([0.9, 0.2]), jnp.array([3, 700]))
    return x, noise, Condition(labels=jnp.array(labels)), model.initial_carry(2)


def started(model):
    """Parameters moved off their start, where modulation and output are zero."""
    params = nn.unbox(jax.jit(model.init)(jax.random.key(1), *inputs(model)))["params"]
    return jax.tree.map(
        lambda leaf: (
            leaf + 0.02 * jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)
        ),
        params,
    )


def output(model, params, *arguments):
    return jax.jit(model.apply)({"params": params}, *arguments).output


def test_timestep_codes_of_dit():
    golden = load_diffussm("dit_embeddings.npz")
    for dim in (256, 7, 64):
        case = part(golden, f"timestep_embedding_{dim}/")
        assert relative_error(timestep_code(jnp.asarray(case["t"]), dim), case["emb"]) < 1e-4


def test_position_tables_of_dit():
    golden = load_diffussm("dit_embeddings.npz")
    for dim, side in ((16, 4), (48, 3), (1152, 2), (64, 16)):
        expected = golden[f"pos_embed_d{dim}_g{side}"]
        assert relative_error(position_table((side, side), dim), expected) < 1e-12


def test_label_and_time_embeddings_of_dit():
    golden = load_diffussm("dit_embeddings.npz")
    labels, sd = part(golden, "label_embedder/"), part(golden, "dit/sd/")
    dropped = labels["force_drop_ids"] == 1
    given = jnp.asarray(np.where(dropped, -1, labels["labels"]), jnp.int32)

    def embed(dim, num_classes, params, t, given):
        module = ConditionEmbedding(dim, num_classes)
        return module.apply({"params": params}, t, Condition(given))

    def dense(name):
        weight, bias = sd[f"t_embedder.mlp.{name}.weight"], sd[f"t_embedder.mlp.{name}.bias"]
        return {"kernel": jnp.asarray(weight.T), "bias": jnp.asarray(bias)}

    width = labels["table"].shape[1]
    silent = {"kernel": jnp.zeros((256, width)), "bias": jnp.zeros((width,))}
    params = {
        "labels": jnp.asarray(labels["table"]),
        "time_in": silent,
        "time_out": {"kernel": jnp.zeros((width, width)), "bias": jnp.zeros((width,))},
    }
    t = jnp.zeros(given.shape, jnp.int32)
    ours = embed(width, len(labels["table"]) - 1, params, t, given)
    assert relative_error(ours, labels["out_forced"]) < 1e-6

    table = jnp.asarray(sd["y_embedder.embedding_table.weight"])
    params = {"labels": table, "time_in": dense(0), "time_out": dense(2)}
    t = golden["dit/t"].astype(np.int32)
    ours = embed(24, 5, params, jnp.asarray(t), jnp.array([-1] * len(t)))
    code = np.asarray(timestep_code(jnp.asarray(t), 256))
    hidden = code @ sd["t_embedder.mlp.0.weight"].T + sd["t_embedder.mlp.0.bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    expected = hidden @ sd["t_embedder.mlp.2.weight"].T + sd["t_embedder.mlp.2.bias"] + table[-1:]
    assert relative_error(ours, expected) < 1e-5


def test_patches_lie_as_in_dit():
    """(row in patch, column in patch, channel), with variance channels too."""
    golden = part(load_diffussm("dit_embeddings.npz"), "dit/")
    tokens = jnp.asarray(golden["tokens_before_unpatchify"])
    ours = Images(8, 8, 4, patch_size=2).from_patches(tokens)
    np.testing.assert_array_equal(ours, np.moveaxis(golden["out"], 1, -1))


@pytest.mark.parametrize(
    "geometry",
    [IMAGES, Images(4, 6, 3, patch_size=2), Tokens(10, 3), Video(4, 2, 2, 1, 1, 2)],
    ids=["images", "patches", "sequence", "video"],
)
@pytest.mark.parametrize("learned_variance", [True, False])
def test_output_is_shaped_like_the_data(geometry, learned_variance):
    model = make(geometry, learned_variance=learned_variance)
    x, *rest = inputs(model)
    ours = output(model, started(model), x, *rest)
    channels = x.shape[-1] * (2 if learned_variance else 1)
    assert ours.shape == (*x.shape[:-1], channels)
    assert float(jnp.abs(ours).min()) > 0


def test_a_new_network_puts_out_zeros():
    model = make()
    params = nn.unbox(jax.jit(model.init)(jax.random.key(1), *inputs(model)))["params"]
    np.testing.assert_array_equal(output(model, params, *inputs(model)), 0)


def test_timestep_and_class_reach_the_output():
    model = make()
    params = started(model)
    x, noise, condition, carry = inputs(model)
    plain = output(model, params, x, noise, condition, carry)
    later = noise._replace(timestep=noise.timestep + 1)
    assert float(jnp.abs(output(model, params, x, later, condition, carry) - plain).max()) > 1e-6
    dropped = output(model, params, x, noise, condition.dropped(), carry)
    assert float(jnp.abs(dropped - plain).max()) > 1e-6
    louder = noise._replace(gamma=noise.gamma / 2)  # it is told the timestep alone
    np.testing.assert_array_equal(output(model, params, x, louder, condition, carry), plain)


@pytest.mark.parametrize("options", [dict(remat="full"), dict(remat="dots"), dict(form="chunked")])
def test_how_it_is_computed_does_not_change_it(options):
    model = make(positions="sin_cos")
    params = started(model)

    def gradient(model):
        def loss(params):
            return jnp.square(model.apply({"params": params}, *inputs(model)).output).sum()

        return jax.jit(jax.grad(loss))(params)

    expected, ours = gradient(model), gradient(model.clone(**options))
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * float(jnp.abs(theirs).max()) + 1e-7)


def test_bfloat16_rounds_matmuls_only():
    model = make(positions="sin_cos", dtype=jnp.bfloat16)
    params = started(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}

    def gradient(model):
        def loss(params):
            output = model.apply({"params": params}, *inputs(model)).output
            assert output.dtype == jnp.float32
            return jnp.square(output).sum(), output

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    ours, expected = gradient(model), gradient(model.clone(dtype=jnp.float32))
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, theirs, atol=0.05 * float(jnp.abs(theirs).max()) + 1e-6)


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: make(expansion=5),
            r"expansion is 5: it must divide the 24 tokens and 2 dim",
        ),
        (lambda: make(state_size=3), "state_size is 3: conjugate pairs need an even number"),
        (lambda: make(form="fourier"), "form is 'fourier'"),
        (lambda: make(start="hippo"), "start is 'hippo'"),
        (lambda: make(reading="formula"), "reading is 'formula'"),
        (lambda: make(positions="learned"), "positions is 'learned'"),
        (lambda: make(dim=14, positions="sin_cos"), "dim is 14: sin-cos positions need"),
        (lambda: make(Video(4, 2, 2, 1, 1, 2, 2)), "takes no conditioning frames"),
    ],
)
def test_what_cannot_work_is_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_continuous_time_is_refused():
    model = make()
    x, noise, *rest = inputs(model)
    with pytest.raises(UserError, match="this schedule has none: use a discrete one"):
        model.init(jax.random.key(0), x, NoiseLevel(noise.gamma), *rest)
