"""Streamed metrics are those of whole arrays, and a stopped evaluation goes on."""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import accumulator as module
from diffusion_jax.evaluation.accumulator import Accumulator, load_accumulator
from diffusion_jax.evaluation.frechet import Gaussian, frechet_distance
from diffusion_jax.evaluation.inception_score import InceptionScore
from diffusion_jax.evaluation.kid import kid
from diffusion_jax.evaluation.precision_recall import precision_recall
from diffusion_jax.evaluation.references import Extraction
from diffusion_jax.evaluation.subset import Subset

HOW = Extraction((64, 64), "tf1", "a" * 64)
POOL, SPATIAL, CLASSES = 8, 12, 5


class Features(NamedTuple):
    pool: np.ndarray
    spatial: np.ndarray
    logits: np.ndarray | None


def draw(count, seed, shift=0.0):
    random = np.random.default_rng(seed)
    pool, spatial, logits = (
        (random.normal(size=(count, width)) + shift).astype(np.float32)
        for width in (POOL, SPATIAL, CLASSES)
    )
    return Features(pool, spatial, logits)


def accumulate(features, sizes, keep=50_000):
    made, start = Accumulator(HOW, keep), 0
    for size in sizes:
        made.update(Features(*(part[start : start + size] for part in features)))
        start += size
    return made


@pytest.fixture(scope="module")
def reference():
    return accumulate(draw(1100, seed=1), [1100]).reference("data", "centre")


@pytest.fixture(scope="module")
def of_whole_arrays():
    """The metrics of 1,300 samples beside the reference."""
    samples, real = draw(1300, seed=0, shift=0.3), draw(1100, seed=1)

    def gaussian(x):
        return Gaussian(x.mean(axis=0, dtype=np.float64), np.cov(x, rowvar=False))

    logits = samples.logits.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = [
        np.exp((c * np.log(c / c.mean(axis=0)[None])).sum(axis=1).mean())
        for c in np.split(p, [500, 1000])
    ]
    mean, std = kid(samples.pool, real.pool, subsets=5)
    return {
        "fid": frechet_distance(gaussian(samples.pool), gaussian(real.pool)),
        "sfid": frechet_distance(gaussian(samples.spatial), gaussian(real.spatial)),
        "inception_score": np.mean(scores),
        **precision_recall(samples.pool, real.pool)._asdict(),
        "kid": mean,
        "kid_std": std,
    }


@pytest.mark.parametrize("sizes", [[1300], [1] * 20 + [1280], [500, 500, 300]], ids=len)
def test_streaming_is_the_whole_array(sizes, reference, of_whole_arrays, monkeypatch):
    monkeypatch.setattr(module, "InceptionScore", functools.partial(InceptionScore, chunk=500))
    monkeypatch.setattr(module, "kid", functools.partial(kid, subsets=5))
    samples = draw(1300, seed=0, shift=0.3)
    metrics, counts = accumulate(samples, sizes).result(reference)
    assert metrics == pytest.approx(of_whole_arrays, rel=1e-6)
    assert counts == dict(samples=1300, reference=1100, samples_held=1300, reference_held=1100)


def test_a_stopped_evaluation_goes_on(tmp_path, reference):
    """Bit by bit: at any batch, with the subset full or not."""
    features = draw(90, seed=0)
    whole = accumulate(features, [30, 30, 30], keep=40)
    stopped = Accumulator(HOW, keep=40)
    for start in (0, 30, 60):
        stopped.save(tmp_path / "state.npz")
        stopped = load_accumulator(tmp_path / "state.npz")
        assert stopped.count == start
        stopped.update(Features(*(part[start : start + 30] for part in features)))
    stopped.save(tmp_path / "state.npz")
    assert load_accumulator(tmp_path / "state.npz").result(reference) == whole.result(reference)
    assert whole.result(reference)[1]["samples_held"] == 40


def test_metrics_that_cannot_be_had_are_left_out(reference):
    features = draw(10, seed=0)._replace(logits=None)
    made = Accumulator(HOW)
    made.update(features)
    metrics, _ = made.result(reference)
    assert set(metrics) == {"fid", "sfid", "precision", "recall"}
    metrics, counts = made.result(reference._replace(features=None, num_images=None))
    assert set(metrics) == {"fid", "sfid"}
    assert counts == {"samples": 10}


def test_subset_is_uniform_and_keyed_by_place():
    x = np.arange(20_000.0)[:, None]
    made = Subset(1, 2000)
    made.update(x)
    held = made.features
    assert len(np.unique(held)) == 2000
    # A uniform draw's mean and spread, within 4 standard errors.
    assert abs(held.mean() - 1e4) < 4 * 20_000 / np.sqrt(12 * 2000)
    shares = np.histogram(held, bins=10, range=(0, 20_000))[0]
    assert abs(shares - 200).max() < 4 * np.sqrt(200)
    split = Subset(1, 2000)
    for part in np.array_split(x, 77):
        split.update(part)
    np.testing.assert_array_equal(split.features, held)


def test_mistakes_are_named(reference):
    made = Accumulator(HOW)
    with pytest.raises(UserError, match="samples: 0 examples, and at least 2"):
        made.result(reference)
    with pytest.raises(UserError, match="reference: 0 examples, and at least 2"):
        made.reference("data", None)
    features = draw(3, seed=0)
    made.update(features)
    for part in Features._fields:
        bad = getattr(features, part).copy()
        bad[1, 2] = np.nan
        with pytest.raises(UserError, match=f"{part}.* 1 of 3 rows"):
            made.update(features._replace(**{part: bad}))
    with pytest.raises(UserError, match="some images have logits and some have none"):
        made.update(features._replace(logits=None))
    with pytest.raises(UserError, match="images from 3 on"):
        made.update(features._replace(pool=features.spatial))
    assert made.count == 3
    other = reference._replace(extraction=HOW._replace(resize="half_pixel"))
    with pytest.raises(UserError, match="resize is tf1 and half_pixel"):
        made.result(other)
