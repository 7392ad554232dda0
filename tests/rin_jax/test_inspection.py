"""What is shown of a RIN is what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from diffusion_jax.denoiser import Condition, NoiseLevel
from rin_jax import RIN, Images
from rin_jax.attention import MultiHeadAttention
from rin_jax.inspection import correlation, detail, drift, look_inside, read_maps, spread

GEOMETRY = Images(height=4, width=6, channels=1, patch_size=2)


def moved(params):
    """Off their start, where carried latents and biases are zero; NumPy's arrays."""
    return jax.tree.map(
        lambda leaf: (
            leaf
            + np.float32(0.3) * np.sin(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape)
        ),
        jax.device_get(nn.unbox(params)),
    )


def test_the_weights_make_the_output_of_attention():
    """softmax(q k) v, through the output's matrix, is what the module puts out."""
    module = MultiHeadAttention(2, 8)
    query, source = (jax.random.normal(jax.random.key(i), (3, 5 + i, 6)) for i in range(2))
    params = moved(jax.jit(module.init)(jax.random.key(2), query, source)["params"])
    apply = jax.jit(module.apply, static_argnames="mutable")
    output, state = apply({"params": params}, query, source, mutable=("intermediates",))
    (weights,) = state["intermediates"]["weights"]
    value = np.einsum("bsd,dhk->bshk", source, params["value_kernel"]) + params["value_bias"]
    mixed = np.einsum("bhls,bshk->blhk", weights, value)
    expected = np.einsum("blhk,hkd->bld", mixed, params["out_kernel"]) + params["out_bias"]
    np.testing.assert_allclose(output, expected, atol=1e-6)
    np.testing.assert_array_equal(output, apply({"params": params}, query, source))


def test_what_each_block_reads_in_the_order_of_the_blocks():
    """Against softmax(q k) by hand, from what the block before left."""
    model = RIN(
        GEOMETRY,
        num_latents=5,
        process_layers=(1, 1, 2),
        latent_dim=16,
        latent_heads=2,
        latent_mlp_ratio=1,
        interface_dim=12,
        interface_mlp_ratio=1,
        read_write_heads=2,
        num_classes=3,
        condition_on="interface",
    )
    x = jax.random.normal(jax.random.key(1), (2, *GEOMETRY.sample_shape))
    carry = jax.tree.map(lambda part: part + 0.1, model.initial_carry(2))
    inputs = (x, NoiseLevel(jnp.array([0.3, 0.9])), Condition(labels=jnp.array([0, 2])), carry)
    params = moved(jax.jit(model.init)(jax.random.key(0), *inputs)["params"])
    found = jax.jit(lambda *arguments: look_inside(model, *arguments))(params, *inputs)
    assert found.read.shape == (3, 2, 5, 7)  # six tokens of the image, and the class
    np.testing.assert_allclose(found.read.sum(axis=-1), 1, atol=1e-6)
    apply = jax.jit(lambda *arguments: model.apply(*arguments, mutable=["intermediates"]))
    prediction, state = apply({"params": params}, *inputs)
    np.testing.assert_array_equal(found.latents, prediction.carry["latents"])

    sown = state["intermediates"]
    (latents,), (interface,) = sown["initial_latents"], sown["initial_interface"]
    np.testing.assert_array_equal(found.latents_before, latents)
    label = params["condition"]["kernel"][[0, 2]] + params["condition"]["bias"]
    for block in range(3):
        run, layer = (0, block) if block < 2 else (1, 0)
        of_layer = jax.tree.map(lambda leaf, i=layer: leaf[i], params[f"blocks_{run}"]["read"])
        weights = by_hand(of_layer, latents, np.concatenate([interface, label[:, None]], axis=1))
        np.testing.assert_allclose(found.read[block], weights, atol=1e-5)
        (latents,), (interface,) = (sown[f"blocks_{run}"][n] for n in ("latents", "interface"))
        latents, interface = latents[layer], interface[layer]


def by_hand(params, latents, source) -> np.ndarray:
    """Mean over the heads of softmax(LN(z) Wq . x Wk / sqrt(k)), in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    z, source = np.asarray(latents, np.float64), np.asarray(source, np.float64)
    z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
    z = z * params["norm"]["scale"] + params["norm"]["bias"]
    attention = params["attention"]
    q = np.einsum("bld,dhk->blhk", z, attention["query_kernel"]) + attention["query_bias"]
    k = np.einsum("bsd,dhk->bshk", source, attention["key_kernel"]) + attention["key_bias"]
    weights = np.exp(np.einsum("blhk,bshk->bhls", q, k) / np.sqrt(q.shape[-1]))
    return (weights / weights.sum(-1, keepdims=True)).mean(axis=1)


def test_an_even_share_is_one_and_reads_all():
    even = jnp.full((3, 8), 1 / 8)
    np.testing.assert_allclose(read_maps(even, 6), 1, rtol=1e-6)
    one = jax.nn.one_hot(2, 8)
    np.testing.assert_allclose(spread(jnp.stack([even[0], one])), [1, 1 / 8], rtol=1e-6)
    np.testing.assert_allclose(read_maps(one[None], 6), [0, 0, 8, 0, 0, 0])


def test_correlation_is_pearsons_with_each_example():
    rng = np.random.default_rng(0)
    maps, values = rng.normal(size=(2, 3, 9)), rng.normal(size=(3, 9))
    expected = [[[np.corrcoef(m, v)[0, 1] for v in values] for m in batch] for batch in maps]
    ours = correlation(jnp.asarray(maps, jnp.float32), jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert correlation(jnp.ones((3, 9)), jnp.asarray(values, jnp.float32)).tolist() == [[0] * 3] * 3


def test_detail_is_where_brightness_changes():
    image = jnp.zeros((1, 4, 6, 1)).at[:, :, 4:].set(1.0)  # an edge between columns 3 and 4
    np.testing.assert_allclose(detail(image, 2), [[0, 0.25, 0.25, 0, 0.25, 0.25]])
    np.testing.assert_allclose(detail(image.swapaxes(1, 2), 2), [[0, 0, 0.25, 0.25, 0.25, 0.25]])


def test_drift_of_known_latents():
    before, after = jnp.array([[3.0, 0.0], [0.0, 0.0]]), jnp.array([[0.0, 4.0], [0.0, 0.0]])
    change, cosine = drift(jnp.stack([before, after]), jnp.stack([after, 2 * after]))
    np.testing.assert_allclose(change, [5 / 4, 1 / 2])
    np.testing.assert_allclose(cosine, [0, 1])
