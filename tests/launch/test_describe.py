"""Counts of a config are those of the paper's formulas, and stand beside the printed ones."""

import jax
import jax.numpy as jnp
import tiny

from configs.catalogue import load
from diffusion_jax.compilation import costs
from diffusion_jax.experiment.build import build
from launch import describe


def test_multiply_adds_are_the_papers_formula():
    """Section 4: 13 (L / M) D^2 + L D^2 in a block's matrices; adaLN adds 3 D^2."""

    def count(layers, batch):
        experiment = build(tiny.diffussm(model__layers=layers))
        return costs.multiply_adds(experiment, batch)["matmul"]

    length, expansion, dim = 64, 2, 16
    a_layer = (13 * length // expansion + length + 3) * dim**2
    each_of_three, each_of_one = (count(layers, 2) - count(layers, 1) for layers in (3, 1))
    assert each_of_three - each_of_one == 2 * a_layer


def test_fft_of_one_more_example():
    """Of D channels: one transform forward, two back, of 2 L real numbers, 1.25 n log2 n each."""
    experiment = build(tiny.diffussm(model__layers=1))
    one, two = (costs.multiply_adds(experiment, batch)["fft"] for batch in (1, 2))
    assert two - one == 16 * 3 * 1.25 * 128 * 7


def test_a_convolution_counts_as_the_matmul_that_it_is():
    """As of another's network: 3 x 3 kernels, 8 channels to 16, at 5 x 5 places of 2 images."""
    arguments = jnp.ones((2, 5, 5, 8)), jnp.ones((3, 3, 8, 16))
    program = jax.make_jaxpr(
        lambda x, kernel: jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )(*arguments)
    assert costs.in_program(program.jaxpr)["matmul"] == 2 * 5 * 5 * 16 * 3 * 3 * 8


def test_the_papers_figures_stand_beside_ours(capsys):
    describe.main(load("diffussm/imagenet256"), "diffussm/imagenet256")
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line for line in lines}
    assert "707.33 M    published 673 M" in table["parameters"]
    assert "295.71 G    published 280.3 G" in table["matmul"]
    assert "the paper's own FLOPs formula" in table["The"]
