"""The benchmark runs what the commands run, and compares like with like."""

import pytest
import tiny

from diffusion_jax.benchmarks import timing
from diffusion_jax.benchmarks.phases import REVERSE_STEPS, groups, layer
from diffusion_jax.benchmarks.variants import variants
from diffusion_jax.compilation.costs import step_flops
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.parallel.sharding import make_mesh
from launch import benchmark


def test_every_program_of_a_config_runs():
    config = tiny.diffussm()
    table, records, ceilings = benchmark.run({"": config}, benchmark.PHASES, 0, "A title:")
    assert ceilings.bandwidth > 0
    assert [found["phase"] for found in records] == benchmark.PHASES
    assert "ssm" in benchmark.PHASES
    assert len(table.lines) == 4 + len(records)
    steps = {"sampler": REVERSE_STEPS}
    for found in records:
        seconds = found["milliseconds"]["median"] / 1e3
        examples = found["images_per_second"] * seconds
        assert examples == pytest.approx(config.train.batch_size * steps.get(found["phase"], 1))
        assert found["times_as_fast"] == dict(median=1, lowest=1, highest=1)
        assert len(benchmark.row(found)) == len(benchmark.COLUMNS)
    work = records[0]["gflops"] * records[0]["milliseconds"]["median"] * 1e6
    assert work == pytest.approx(step_flops(build(config), config.train.batch_size))


def test_a_config_without_state_spaces_has_no_such_layer(capsys):
    config = tiny.config()
    experiment = build(config)
    assert layer("ssm", config, experiment, make_mesh()) is None
    assert list(groups(["ssm"], {"": config})) == []
    assert capsys.readouterr().out == "ssm: nothing of it in this config\n"


def test_a_field_is_varied_with_its_type():
    found = variants(tiny.config(), "train.batch_size=8,32")
    assert {value: config.train.batch_size for value, config in found.items()} == {"8": 8, "32": 32}
    assert list(variants(tiny.config(), None)) == [""]
    found = variants(tiny.config(), "model.unroll=False,True")
    assert [config.model.unroll for config in found.values()] == [False, True]


def test_a_value_of_another_type_is_refused():
    with pytest.raises(UserError, match="'yes', which is no bool, as"):
        variants(tiny.config(), "model.unroll=yes")


@pytest.mark.parametrize("vary", ["model.remat", "model.remats=none,full"])
def test_what_cannot_be_varied_is_refused(vary):
    with pytest.raises(UserError, match=f"--vary is '{vary}': give a field of the config"):
        variants(tiny.config(), vary)


def test_all_are_called_equally_often_and_ratios_are_of_one_round():
    counts = {"a": 0, "b": 0}

    def call(name):
        counts[name] += 1

    taken = timing.in_turn({name: lambda name=name: call(name) for name in counts}, 0, rounds=3)
    assert counts == {"a": 5, "b": 5}  # two of them unmeasured
    assert [len(times) for times in taken.values()] == [3, 3]
    speed = timing.ratio([2.0, 4.0, 6.0], [1.0, 1.0, 2.0])
    assert speed == timing.Spread(3.0, 2.0, 4.0)
    assert f"{speed:.1f}" == "3.0 (2.0 to 4.0)"
