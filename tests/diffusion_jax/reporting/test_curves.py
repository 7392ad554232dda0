"""A browser gets the values that were recorded, on the steps where they were."""

import json

import numpy as np
import pytest

from diffusion_jax.reporting.curves import MOST_POINTS, make_curve
from diffusion_jax.reporting.figures import smoothed


def test_lines_stand_on_the_steps_of_all_with_gaps_where_they_have_none():
    curve = make_curve("Loss", {"a": ([1, 2, 4], [8.0, 4.0, 2.0]), "b": ([2, 3], [0.5, 0.25])})
    data = json.loads(curve.data)
    assert data["steps"] == [1, 2, 3, 4]
    assert [line["values"] for line in data["lines"]] == [[8, 4, None, 2], [None, 0.5, 0.25, None]]
    assert data["log"] and not data["from_zero"]
    assert [line["colour"] for line in data["lines"]] == [colour for _, colour in curve.keys]
    assert curve.last == ""


def test_a_long_line_is_smoothed_over_all_its_values_and_thinned_to_what_can_be_seen():
    steps, values = np.arange(1, 10_001), np.random.default_rng(0).uniform(1, 2, 10_000)
    curve = make_curve("Loss", {"loss": (steps, values)}, smooth=True)
    data = json.loads(curve.data)
    assert len(data["steps"]) == MOST_POINTS and data["steps"][0::3999] == [1, 10_000]
    raw, means = (line["values"] for line in data["lines"])
    chosen = np.array(data["steps"]) - 1
    np.testing.assert_allclose(raw, values[chosen], rtol=1e-5)
    np.testing.assert_allclose(means, smoothed(values, 200)[chosen], rtol=1e-5)
    three = dict.fromkeys("abc", (steps, values))
    assert len(json.loads(make_curve("Loss", three, smooth=True).data)["lines"]) == 3


@pytest.mark.parametrize("until, where", [(20, "at the end"), (25, "at step 20")])
def test_a_line_that_ends_before_the_run_says_so(until, where):
    curve = make_curve("Loss", {"loss": ([10, 20], [1.0, 0.5])}, until=until)
    assert curve.last == f"0.5 {where}"


def test_one_point_is_no_curve():
    assert make_curve("Loss", {"loss": ([10], [1.0])}) is None
