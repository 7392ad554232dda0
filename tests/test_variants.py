"""A variant changes what it says and nothing else, and keeps its paper's row."""

import json
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs.diffussm import cifar10 as diffussm
from configs.rin import cifar10 as rin
from configs.variants import file_of
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.workdir import flatten

SCHEDULE = [f"objective.schedule.{field}" for field in ("name", "start", "end", "tau")]
SCALE = ["objective.input_scale", "objective.normalize_input"]
BUDGET = [
    *("train.steps", "train.checkpoint_every", "train.grid_every"),
    *("optimizer.warmup_steps", "ema_decay"),
]
BFLOAT16, FLOAT32 = {"model.dtype": "bfloat16"}, {"model.dtype": "float32"}
# What each sets, and what may differ besides.
RIN = {
    "bf16": (BFLOAT16, []),
    "linear": ({"objective.schedule.name": "linear"}, SCHEDULE),
    "cosine": (dict(zip(SCHEDULE, ("cosine", 0.0, 1.0, 1.0), strict=True)), []),
    "cosine0.2": (dict(zip(SCHEDULE, ("cosine", 0.2, 1.0, 1.0), strict=True)), []),
    "sigmoid0": ({"objective.schedule.start": 0.0}, []),
    **{f"b{b}": (dict(zip(SCALE, (b, True), strict=True)), []) for b in (0.3, 0.4, 0.5, 0.6, 0.8)},
    "20min": ({}, BUDGET),
    "2h": ({}, BUDGET),
    "bf16,20min": (BFLOAT16, BUDGET),
}
DIFFUSSM = {"fp32": (FLOAT32, []), "20min": ({}, BUDGET), "2h": ({}, BUDGET)}


def differing(config: ConfigDict, other: ConfigDict) -> dict:
    ours, theirs = (flatten(json.loads(each.to_json())) for each in (config, other))
    assert set(ours) == set(theirs)
    return {field: value for field, value in ours.items() if value != theirs[field]}


@pytest.mark.parametrize(
    "module, name, sets, besides",
    [(rin, name, *said) for name, said in RIN.items()]
    + [(diffussm, name, *said) for name, said in DIFFUSSM.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_variant_builds_and_changes_what_it_says_alone(module, name, sets, besides):
    config = module.get_config(name)
    build(config)
    changed = differing(config, module.get_config())
    assert sets.items() <= changed.items()
    assert set(changed) <= {*sets, *besides}
    for each in name.split(","):
        assert f" {each}" in module.__doc__


@pytest.mark.parametrize("module, row", [(rin, "rin/cifar10"), (diffussm, "diffussm/cifar10")])
@pytest.mark.parametrize("budget, minutes", [("20min", 20), ("2h", 120)])
def test_a_budget_is_nine_tenths_of_its_time_and_all_in_proportion(module, row, budget, minutes):
    table = (Path(__file__).parents[1] / "docs" / "slices.md").read_text()
    tflops = float(re.search(rf"^\| \[{row}\].* GiB \| ([\d.]+) \|", table, re.M)[1])
    whole, config = module.get_config(), module.get_config(budget)
    assert config.train.steps * tflops / 110 == pytest.approx(0.9 * 60 * minutes, rel=0.02)
    part = config.train.steps / whole.train.steps
    assert config.optimizer.warmup_steps == pytest.approx(part * whole.optimizer.warmup_steps, 0.01)
    assert 1 - config.ema_decay == pytest.approx((1 - whole.ema_decay) / part, rel=0.01)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'3h' is no variant: choose from fp32, 20min, 2h"):
        diffussm.get_config("fp32,3h")
    with pytest.raises(UserError, match="two of '20min,2h' set ema_decay: choose one of them"):
        rin.get_config("20min,2h")


def test_a_variant_has_the_file_of_its_row():
    assert file_of("rin/cifar10:bf16,2h") == file_of("rin/cifar10") == "rin/cifar10"
