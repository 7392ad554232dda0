"""The benchmark compares like with like, and says what it could not run."""

import jax
import numpy as np

from diffusion_jax.benchmarks.plots import plot_lengths
from launch import benchmark_length


def outputs(layers: dict, dim: int = 64) -> dict[str, jax.Array]:
    """What each layer makes of the same input."""
    made = {}
    for name, (layer, positions) in layers.items():
        x = jax.random.normal(jax.random.key(0), (1, positions, dim))
        made[name] = jax.tree.leaves(jax.jit(layer.init_with_output)(jax.random.key(1), x)[0])[0]
    return made


def test_both_forms_compute_the_same_layer():
    made = outputs(benchmark_length.mixers(300, 64))
    np.testing.assert_allclose(made["FFT"], made["chunked"], atol=1e-4)
    assert made["attention"].shape == (1, 300, 64)


def test_attention_is_in_heads_of_64_channels():
    x = jax.random.normal(jax.random.key(0), (5, 128))
    heads = x[:, :64], x[:, 64:]
    expected = [jax.nn.softmax(head @ head.T / 8) @ head for head in heads]
    mixed = benchmark_length.Attention().apply({}, x[None])[0]
    np.testing.assert_allclose(mixed, np.concatenate(expected, 1), atol=1e-5)


def test_blocks_are_of_as_many_tokens():
    made = outputs(benchmark_length.blocks(64, 64))
    assert {name: x.shape for name, x in made.items()} == {
        "DiffuSSM, M = 1": (1, 64, 64),
        "DiffuSSM, M = 2": (1, 32, 64),  # positions of two tokens
        "attention, einsum": (1, 64, 64),
        "attention, xla": (1, 64, 64),
    }
    np.testing.assert_allclose(made["attention, einsum"], made["attention, xla"], atol=1e-5)


def test_a_measurement_that_does_not_fit_is_a_cell_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_length, "AVAILABLE", 30e6)
    table, records = benchmark_length.run(benchmark_length.mixers, [128, 2048], 64, 0, "A title")
    assert table.lines[2].startswith("| L | FFT, forward | FFT, gradient | chunked, forward |")
    short, long = (line.removesuffix(" |").split(" | ") for line in table.lines[4:])
    assert (short[0], long[0]) == ("| 128", "| 2,048")
    assert "does not fit" not in (short[1], short[5], short[6], long[1])  # FFT; attention
    assert long[5:] == ["does not fit"] * 2
    assert [record["milliseconds"] is None for record in records[-2:]] == [True, True]
    assert records[0].keys() == {"length", "mixer", "run", "milliseconds"}
    plot_lengths(records, "A title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
