"""The benchmark compares like with like, and says what it could not run."""

import jax
import numpy as np

from diffusion_jax.benchmarks.plots import plot_lengths
from launch import benchmark_length


def test_both_forms_compute_the_same_layer():
    made = benchmark_length.mixers(300, 64)
    fft, chunked = (
        jax.jit(function)(*arguments) for function, arguments in (made["FFT"], made["chunked"])
    )
    np.testing.assert_allclose(fft, chunked, atol=1e-4)
    function, arguments = made["attention"]
    assert jax.eval_shape(function, *arguments).shape == (1, 300, 1, 64)


def test_blocks_are_of_as_many_tokens():
    made = benchmark_length.blocks(64, 64)
    shapes = {
        name: jax.tree.leaves(jax.eval_shape(function, *arguments))[0].shape
        for name, (function, arguments) in made.items()
    }
    assert shapes == {
        "DiffuSSM, M = 1": (1, 64, 64),
        "DiffuSSM, M = 2": (1, 32, 64),  # positions of two tokens
        "attention, einsum": (1, 64, 64),
        "attention, xla": (1, 64, 64),
    }
    einsum, xla = (
        jax.jit(function)(*arguments)[0]
        for name, (function, arguments) in made.items()
        if name.startswith("attention")
    )
    np.testing.assert_allclose(einsum, xla, atol=1e-5)


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
