"""Our results stand below the rows that they are to reach, and published rows fit the configs."""

import dataclasses
from pathlib import Path

import pytest

from configs.catalogue import load, source
from configs.published import RESULTS
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.results import Result, find_results, write_result
from diffusion_jax.reporting.published import beside_published, tables
from launch.tables import main

ROOT = Path(__file__).parents[2]

RESULT = Result(
    config="diffussm/imagenet256",
    metrics={"fid": 2.3456, "precision": 0.85},
    counts={"samples": 5000},
    seed=3,
    step=2_000_000,
    images_seen=512_000_000,
    sampler="ddpm",
    steps=100,
    guidance=0.5,
    weights={"inception": "a" * 64},
    reference={"fingerprint": "b" * 64},
    command="python -m launch.evaluate",
)
OTHERS = {
    "xl/samples/b": dataclasses.replace(RESULT, guidance=0.25, metrics={"fid": 1.5}),
    "digits": dataclasses.replace(RESULT, config="rin/digits", guidance=0.0),
    "files": Result(
        config="",
        metrics={"fid": 3.0},
        counts={"samples": 10},
        weights={},
        reference={},
        command="",
    ),
}


def lines(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_results_stand_below_published_rows(tmp_path, capsys):
    for name, result in {"xl/samples/a": RESULT, **OTHERS}.items():
        (tmp_path / name).mkdir(parents=True)
        write_result(tmp_path / name / "results.json", result)
    main(tmp_path)
    text = capsys.readouterr().out
    guided = text[text.index("| DiffuSSM-XL-G |") :].splitlines()
    assert "| 2.28 | 4.49 | 259.13 | 0.86 | 0.56 | DiffuSSM |" in guided[0]
    assert guided[1] == (
        "| ours, diffussm/imagenet256 | 512M | 0.5 | ddpm, steps 100, seed 3 | 5,000 | 2.35 |  |  "
        "| 0.850 |  | xl/samples/a |"
    )
    assert "| 0.25 |" in guided[2] and "| 1.50 |" in guided[2]  # no such row is published
    (unguided,) = lines(text, "ours, diffussm/imagenet256 |  |")
    assert set(unguided.removeprefix("| ours, diffussm/imagenet256")) == set("| ")
    others = text[text.index("## Others") :]
    assert lines(others, "ours, rin/digits", "digits |")
    assert lines(others, "| 3.00 |", "files |")
    for name in ("xl/samples/a", *OTHERS):
        assert len(lines(text, f"| {name} |")) == 1


def test_every_row_with_a_config_waits_for_ours():
    text = tables({}, RESULTS)
    for rows in RESULTS.values():
        for row in rows:
            assert not row.config or lines(text, f"| ours, {row.config} |")
    assert "Others" not in text


def test_published_rows_of_a_config():
    text = beside_published(RESULT, RESULTS).splitlines()
    assert [line.split(" | ")[0] for line in text] == [
        "| model",
        "| ---",
        "| DiffuSSM-XL",
        "| DiffuSSM-XL-G",
        "| ours, diffussm/imagenet256",
    ]


def test_a_variant_stands_with_its_row_under_its_own_name():
    variant = dataclasses.replace(RESULT, config="rin/cifar10:bf16,2h", guidance=0.0)
    _, _, row, ours = beside_published(variant, RESULTS).splitlines()
    assert row.startswith("| RIN |") and ours.startswith("| ours, rin/cifar10:bf16,2h |")
    text = tables({"a": variant}, RESULTS)
    assert lines(text, "ours, rin/cifar10:bf16,2h", "| a |") and "Others" not in text


def test_published_rows_are_what_the_configs_say():
    """The figures that a config's file names, its sampler, the images that its training sees."""
    for row in (row for rows in RESULTS.values() for row in rows if row.config):
        text = (ROOT / source(row.config)).read_text()
        for score in (row.fid, row.fvd):
            assert score is None or f"{score:.2f}".rstrip("0") in text
        config = load(row.config)
        assert row.sampler in (None, config.sampling.sampler)
        assert row.steps == config.sampling.steps
        if row.images_seen:
            seen = config.train.steps * config.train.batch_size
            assert seen == pytest.approx(row.images_seen, rel=1e-3)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no directory"):
        find_results(tmp_path / "none")
    path = tmp_path / "results.json"
    for text, message in (
        ("{", "results.json is damaged .Expecting"),
        ("{}", "results.json is damaged .it lacks config"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            find_results(tmp_path)
    write_result(path, dataclasses.replace(RESULT, metrics={"fdi": 1.0}))
    with pytest.raises(UserError, match="'fdi': did you mean fvd or fid"):
        find_results(tmp_path)
