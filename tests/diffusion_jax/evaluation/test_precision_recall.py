"""Precision and recall of sets whose manifolds are plain, and in blocks."""

import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import precision_recall as module
from diffusion_jax.evaluation.kid import kid
from diffusion_jax.evaluation.precision_recall import precision_recall

RANDOM = np.random.default_rng(0)


def direct(samples, reference, neighbours=3):
    """All distances at once, in float64."""

    def distances(x, y):
        return np.square(x[:, None, :] - y[None, :, :]).sum(axis=-1)

    def radii(x):
        return np.sort(distances(x, x), axis=1)[:, neighbours]  # at 0 the point itself

    between = distances(samples.astype(np.float64), reference.astype(np.float64))
    sample_radii, reference_radii = radii(samples), radii(reference)
    precision = (between <= reference_radii[None, :]).any(axis=1).mean()
    return precision, (between <= sample_radii[:, None]).any(axis=0).mean()


def test_blocks_do_not_matter(monkeypatch):
    samples, reference = RANDOM.normal(size=(210, 8)), RANDOM.normal(size=(150, 8)) * 0.8
    expected = direct(samples, reference)
    assert 0.2 < expected[0] < 0.99
    for distances in (2**25, 4096, 1):
        monkeypatch.setattr(module, "_DISTANCES", distances)
        assert precision_recall(samples[:60], reference[:40]) == direct(
            samples[:60], reference[:40]
        )
    assert precision_recall(samples, reference) == expected


def test_far_from_the_origin():
    """A mean 1e3 times the deviation would leave float32 distances no digits."""
    samples, reference = RANDOM.normal(size=(2, 100, 8)) + 1e3
    assert precision_recall(samples, reference) == direct(samples, reference)


def test_equal_disjoint_and_collapsed_sets():
    x = RANDOM.normal(size=(100, 8))
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x + 100, x) == (0, 0)
    collapsed = precision_recall(x[:10] * 0.01 + x[:1], x)
    assert collapsed.precision == 1
    assert collapsed.recall == 0.01


def test_kid_of_equal_distributions_is_about_zero():
    first, second, other = RANDOM.normal(size=(3, 400, 16))
    near, far = kid(first, second, 10, 200), kid(first, other + 0.5, 10, 200)
    assert abs(near.mean) < 0.02
    assert far.mean > 0.2


@pytest.mark.parametrize("metric, least", [(precision_recall, 4), (kid, 1000)])
def test_mistakes_are_named(metric, least):
    enough, few = np.zeros((1000, 2)), np.zeros((least - 1, 2))
    with pytest.raises(UserError, match=f"samples: {least - 1} examples, and at least {least}"):
        metric(few, enough)
    with pytest.raises(UserError, match="reference: "):
        metric(enough, few)
    with pytest.raises(UserError, match=r"not \(N, 2\)"):
        metric(enough, np.zeros((1000, 3)))
    with pytest.raises(UserError, match="NaN or infinite"):
        metric(enough * np.nan, enough)
