"""Every field of a config declares what it may hold, and the declaration is enforced."""

import dataclasses
import math
import typing

import jax
import pytest
import tiny

from diffusion_jax.console import printable
from diffusion_jax.data.sources import DataConfig
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.schema import SECTIONS
from diffusion_jax.experiment.sections import RunConfig, TrainConfig
from diffusion_jax.fields import (
    COUNT,
    RATE,
    SEED,
    Checked,
    Each,
    Location,
    Number,
    count,
    make,
    number,
    rule_of,
)
from diffusion_jax.geometry import Images
from diffussm_jax import DiffuSSM
from rin_jax import RIN


def checked_classes() -> list[type]:
    """All classes of fields, at any depth."""
    found, left = [], [Checked]
    while left:
        for kind in left.pop().__subclasses__():
            left.append(kind)
            if dataclasses.is_dataclass(kind):
                found.append(kind)
    return [*found, RIN, DiffuSSM]


@pytest.mark.parametrize("kind", checked_classes(), ids=lambda kind: kind.__name__)
def test_every_field_of_plain_values_declares_its_rule(kind):
    plain = (int, float, bool, str)
    for field in dataclasses.fields(kind):
        parts = (field.type, *typing.get_args(field.type))
        is_plain = any(part in plain for part in parts) and jax.Array not in parts
        if (is_plain and field.name != "name") or field.name in ("seed", "steps"):
            assert rule_of(field), f"{kind.__name__}.{field.name} declares no rule"


def test_every_field_of_a_config_is_one_of_a_checked_class():
    """So a field that base.py gains is checked: it has to be declared before `build` takes it."""
    config = tiny.config()
    config.unlock()
    for section in ("train", "objective", "optimizer", "sampling", "model", "mesh"):
        changed = config.copy_and_resolve_references()
        changed[section].unlock()
        changed[section].novel = 1
        with pytest.raises(UserError, match=rf"{section}\.novel is no field: "):
            build(changed)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field",
    [
        "ema_decay",
        "objective.input_scale",
        "objective.label_dropout",
        "optimizer.learning_rate",
        "optimizer.clip_norm",
        "optimizer.b1",
        "sampling.guidance",
        "sampling.time_shift",
        "sampling.carry_decay",
        "model.time_scaling",
        "model.dropout",
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_name(field, value):
    name = "guidance" if field == "sampling.guidance" else field
    with pytest.raises(UserError, match=rf"{name}.* is -?(nan|inf): it must be a finite number"):
        build(tiny.config(**{field.replace(".", "__"): value}))


@pytest.mark.parametrize("value", [1e300, -1e39, 1e-320, 5e-324, 1e-50])
@pytest.mark.parametrize(
    "field", ["objective.input_scale", "sampling.guidance", "optimizer.clip_norm", "ema_decay"]
)
def test_numbers_that_float32_does_not_hold_are_refused_by_name(field, value):
    name = "guidance" if field == "sampling.guidance" else field
    with pytest.raises(UserError, match=rf"{name}.* is .*: it must be 0, or of a size from 1e-37"):
        build(tiny.config(**{field.replace(".", "__"): value}))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(train__grid_size=0), "train.grid_size is 0: it must be at least 1"),
        (dict(model__num_classes=-1), "model.num_classes is -1: it must be at least 0"),
        (
            dict(model__process_layers=(2, 2.5)),
            r"model.process_layers is \(2, 2.5\): an element is 2.5: it must be an integer",
        ),
        (dict(model__process_layers=()), r"model.process_layers is \(\): give at least 1"),
        (dict(seed=-1), "config.seed is -1: it must be at least 0"),
        (dict(seed=2**32), "config.seed is 4294967296: it must be at most 4294967295"),
        (dict(seed=2**64), "config.seed is 18446744073709551616: it must be at most 4294967295"),
        (dict(train__batch_size=2**31), "train.batch_size is 2147483648: .* at most 2147483647"),
        (dict(optimizer__b2=1.0), "optimizer.b2 is 1.0: it must be below 1"),
        (dict(sampling__steps=2**31 - 1), "sampling.steps is 2147483647: .* at most 1000000"),
        (
            dict(objective__schedule__name="linear_betas", objective__schedule__steps=10**9),
            "objective.schedule.steps is 1000000000: it must be at most 1000000",
        ),
        (
            dict(model__geometry__height=2**31 - 1),
            r"patch_size 4 does not divide height 2147483647: choose one of \[1, 2147483647\]",
        ),
        (dict(optimizer__eps=0.0), "optimizer.eps is 0.0: it must be above 0"),
        (dict(evaluation__inception="s3://x/y"), "evaluation.inception is .*: only local paths"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_out_of_range_is_named_with_its_value_and_bounds(changes, message):
    with pytest.raises(UserError, match=message):
        build(tiny.config(**changes))


def test_sections_say_which_field_is_unknown_or_missing():
    with pytest.raises(UserError, match=r"train\.stesp is no field: did you mean steps"):
        make(TrainConfig, {"stesp": 3}, "train")
    with pytest.raises(UserError, match=r"geometry\.height is missing: set it"):
        make(Images, {}, "geometry")
    with pytest.raises(UserError, match=r"data\.path is 'gs://bucket/x': only local paths"):
        make(DataConfig, {"name": "npz", "path": "gs://bucket/x"}, "data")


def test_rules_normalise_what_they_accept(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert DataConfig("folder", "~/photos").path == "/home/someone/photos"
    assert Each(COUNT)("process_layers", [6, 6]) == (6, 6)  # as JSON has it
    assert isinstance(Number()("x", 1), float)
    assert RunConfig(seed=2**32 - 1).seed == 2**32 - 1
    assert SECTIONS["train"]().steps == 150_000


@pytest.mark.parametrize(
    "rule, value, message",
    [
        (COUNT, True, "x is True: it must be an integer"),
        (COUNT, 1.0, "x is 1.0: it must be an integer"),
        (COUNT, "1", "x is '1': it must be an integer"),
        (RATE, 1.5, "x is 1.5: it is a rate, between 0 and 1"),
        (SEED, -1, "x is -1: it must be at least 0"),
        (Number(above=0, below=1), 1.0, "x is 1.0: it must be below 1"),
        (Location(), "", "x is empty: give a path"),
        (Location(), "a\0b", r"x is 'a\\x00b': give a path without control characters"),
        (Location(), "\x1b[2J\n", r"x is '\\x1b\[2J\\n': give a path without control characters"),
        (Location(), "a/" + "b" * 256, r"x is 'a/b+\.\.\.: no file has a name of so many bytes"),
        (Location(), 3, "x is 3: it must be a path"),
        (Location(kind="folder"), __file__, "which is a file: give a folder"),
        (Location(kind="file"), "/", "which is a folder: give a file"),
        (Each(COUNT), "12", r"x is '12': it must be a list, as \(1, 2\)"),
    ],
)
def test_rules_refuse_with_the_value_and_the_remedy(rule, value, message):
    with pytest.raises(UserError, match=message):
        rule("x", value)


def test_a_checked_dataclass_checks_all_its_fields():
    @dataclasses.dataclass(frozen=True)
    class Example(Checked):
        size: int = count(1)
        scale: float = number(1.0, above=0)
        flip: bool = False

    assert Example(size=3, scale=2) == Example(3, 2.0, False)
    for wrong in (dict(size=0), dict(scale=math.nan), dict(flip="yes")):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is "):
            Example(**wrong)


def test_names_from_files_cannot_forge_or_hide_a_line():
    assert printable("a\nerror: all is well.png") == "a\\nerror: all is well.png"
    assert printable("\x1b[2Jx\r\x07") == "\\x1b[2Jx\\r\\x07"
    assert printable("Fotos/Käse 猫.png") == "Fotos/Käse 猫.png"
    assert printable("\u202egnp.exe\udcff") == "\\u202egnp.exe\\udcff"
