"""Configs are what the dataclasses declare: fields, defaults, ranges and words."""

import dataclasses

import pytest
import tiny

from configs.base import base, diffussm, rin
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.schema import (
    check_complete,
    describe_fields,
    flatten,
    network_fields,
    shared_fields,
)
from diffusion_jax.experiment.sections import ScheduleConfig
from diffusion_jax.training.optimizers import OptimizerConfig

FIELDS = [*shared_fields(), *network_fields("rin"), *network_fields("diffussm")]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_is_documented_and_follows_a_rule(field):
    assert field.meaning
    if field.name != "sampling.guidance":  # an array, in programs
        assert field.rule(field.name, field.default) == field.default
        assert str(field.rule) and "object at" not in str(field.rule)


@pytest.mark.parametrize("model", [rin(), diffussm()], ids=["rin", "diffussm"])
def test_a_config_holds_the_fields_of_its_classes_and_their_defaults(model):
    config = base(model)
    found = flatten(config.to_dict())
    expected = {field.name: field.default for field in shared_fields()}
    expected |= {field.name: field.default for field in network_fields(model["name"])}
    expected |= {"model.name": model["name"], "model.num_classes": 1000}
    expected |= flatten(model["geometry"], "model.geometry.")
    assert found == expected
    assert config.is_locked
    optimizer = dataclasses.asdict(OptimizerConfig())
    run_only = {"start_step", "rewarm_steps"}  # which programs set
    assert config.optimizer.to_dict() == {k: v for k, v in optimizer.items() if k not in run_only}
    for section, name in (("objective", "linear"), ("sampling", "cosine_simple")):
        assert config[section].schedule.to_dict() == dataclasses.asdict(ScheduleConfig(name))
    assert not {"model.condition_tokens", "model.param_dtype", "model.parent"} & found.keys()
    check_complete(config)


def test_help_lists_every_field_with_value_range_default_and_meaning():
    text = describe_fields(tiny.config())
    for field in flatten(tiny.config().to_dict()):
        assert field in ("model.name", "model.geometry.kind") or f"--config.{field}=" in text
    assert "--config.train.steps=6  (integer, at least 1; default 150000)\n    updates in" in text
    assert "--config.optimizer.name=lamb  (one of lamb, adamw)\n    'lamb' or 'adamw'." in text
    assert "--config.autoencoder.scaling=()  (two numbers, or ())" in text
    assert max(map(len, text.splitlines())) < 140


@pytest.mark.parametrize(
    "scaling, message",
    [
        ((1.0,), r"autoencoder.scaling is \(1.0,\): give \(scaling_factor, shift_factor\)"),
        ((0.0, 1.0), "autoencoder.scaling: scaling_factor is 0.0: it must be at least 1e-06"),
        (
            (1.0, "x"),
            r"autoencoder.scaling is \(1.0, 'x'\): an element is 'x': it must be a number",
        ),
    ],
)
def test_a_scaling_is_two_numbers(scaling, message):
    with pytest.raises(UserError, match=message):
        build(tiny.config(autoencoder__scaling=scaling))
