"""The benchmark compares like with like, and says what it could not run."""

import jax
import numpy as np

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


def test_a_measurement_that_does_not_fit_is_a_cell_of_the_table():
    found = dict(median=2.0, lowest=1.0, highest=4.0)
    records = [
        dict(length=length, mixer=mixer, run="forward", milliseconds=milliseconds)
        for length, mixer, milliseconds in (
            (1024, "FFT", found),
            (1024, "attention", found),
            (2048, "FFT", found),
            (2048, "attention", None),
        )
    ]
    lines = benchmark_length.table(records, "A title").splitlines()
    assert lines[2] == "| L | FFT, forward | attention, forward |"
    assert lines[-1] == "| 2,048 | 2.0 (1.0 to 4.0) | does not fit |"
