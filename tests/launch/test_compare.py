"""Values of a field are trained alike, and set beside the spread of seeds."""

import json

import pytest
import tiny

from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.reporting.plots import last_loss, loss_table, plot_losses
from diffusion_jax.reporting.published import markdown
from launch import compare


def test_every_value_is_trained_from_every_seed(tmp_path):
    config = tiny.config(train__steps=4)
    configs = variants(config, "model.dtype=float32,bfloat16")
    curves = compare.run(configs, [1], tmp_path / "runs")
    assert {value: list(by_seed) for value, by_seed in curves.items()} == {
        "float32": [1],
        "bfloat16": [1],
    }
    for value, by_seed in curves.items():
        saved = json.loads((tmp_path / "runs" / f"{value}_1" / "config.json").read_text())
        assert (saved["model"]["dtype"], saved["seed"]) == (value, 1)
        assert [step for step, _ in by_seed[1]] == [1, 2, 3, 4]
    float32, bfloat16 = (curves[value][1][0][1] for value in curves)
    assert float32 != bfloat16 and float32 == pytest.approx(bfloat16, rel=0.02)
    plot_losses(curves, "A title", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_loss_is_of_the_last_quarter():
    curve = [(step, 9.0 if step <= 6 else 1.0 + step) for step in range(1, 9)]
    assert last_loss(curve) == 8.5
    lines = markdown(loss_table({"a": {0: curve, 3: [(4, 1.5)]}})).splitlines()
    assert lines[0] == "|  | seed 0 | seed 3 | mean | lowest | highest |"
    assert lines[2] == "| a | 8.50000 | 1.50000 | 5.00000 | 1.50000 | 8.50000 |"
