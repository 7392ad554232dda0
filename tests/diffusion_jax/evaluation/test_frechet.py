"""Streaming statistics, and the Frechet distance where its value is known in closed form."""

import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.frechet import Gaussian, Moments, frechet_distance

RANDOM = np.random.default_rng(0)


def moments(*batches):
    made = Moments(batches[0].shape[1])
    for batch in batches:
        made.update(batch)
    return made


def rotation(dim):
    return np.linalg.qr(RANDOM.normal(size=(dim, dim)))[0]


def about_zero(covariance):
    return Gaussian(np.zeros(len(covariance)), covariance)


def same(first: Moments, second: Moments):
    assert first.count == second.count
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-12)
    np.testing.assert_allclose(first.scatter, second.scatter, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_streaming_is_numpys_whatever_the_batches(size):
    """Beside a mean 1e4 times the deviation too, where E[x^2] - E[x]^2 would lose 8 digits."""
    x = RANDOM.normal(size=(1000, 6)) + 1e4
    streamed = moments(*(x[i : i + size] for i in range(0, 1000, size))).gaussian()
    np.testing.assert_allclose(streamed.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(streamed.covariance, np.cov(x, rowvar=False), atol=1e-10)


def test_batches_in_any_order():
    parts = [RANDOM.normal(size=(n, 5)) + n for n in (3, 40, 0, 1, 200)]
    whole = moments(np.concatenate(parts))
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        same(moments(*(parts[i] for i in order)), whole)


def test_commuting_covariances_of_any_rank():
    """With C1 = Q a Q^T and C2 = Q b Q^T the distance is |m|^2 + sum (sqrt a - sqrt b)^2."""
    dim = 120
    basis, (a, b) = rotation(dim), RANDOM.uniform(0.5, 5, (2, dim))
    for ranks in ((dim, dim), (dim, 20), (30, 30), (3, 70), (0, 5), (0, 0)):
        roots = [np.sqrt(x) * (np.arange(dim) < r) for r, x in zip(ranks, (a, b), strict=True)]
        first, second = ((basis * root**2) @ basis.T for root in roots)
        mean = RANDOM.normal(size=dim)
        distance = frechet_distance(Gaussian(mean, first), about_zero(second))
        exact = mean @ mean + np.square(roots[0] - roots[1]).sum()
        assert distance == pytest.approx(exact, rel=1e-10)


def test_spaces_that_do_not_commute():
    """Of C1 = u u^T and C2 = v v^T the root's trace is |u . v|, whatever the dimension."""
    u, v = RANDOM.normal(size=(2, 200)) * 10
    distance = frechet_distance(about_zero(np.outer(u, u)), about_zero(np.outer(v, v)))
    assert distance == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), rel=1e-10)
    # In two dimensions Tr (C1 C2)^(1/2) = sqrt(Tr(C1 C2) + 2 sqrt(det C1 det C2)).
    first, second = (x @ x.T for x in RANDOM.normal(size=(2, 2, 2)))
    root = np.sqrt(
        np.trace(first @ second) + 2 * np.sqrt(np.linalg.det(first) * np.linalg.det(second))
    )
    basis = rotation(50)[:, :2]
    distance = frechet_distance(*(about_zero(basis @ x @ basis.T) for x in (first, second)))
    assert distance == pytest.approx(np.trace(first + second) - 2 * root, rel=1e-9)


@pytest.mark.parametrize("count", [2, 60, 400])
def test_a_set_is_at_no_distance_from_itself(count):
    """Features of 256 dimensions, of very unequal scale."""
    x = RANDOM.normal(size=(count, 256)) * np.logspace(2, -4, 256)
    assert frechet_distance(moments(x).gaussian(), moments(x[::-1]).gaussian()) < 1e-6


def test_mistakes_are_named():
    made = moments(np.zeros((1, 4)))
    with pytest.raises(UserError, match="statistics: 1 examples, and at least 2 are needed"):
        made.gaussian()
    with pytest.raises(UserError, match="at least 2"):
        Moments(4).gaussian()
    with pytest.raises(UserError, match=r"shape \(2, 3\), not \(N, 4\)"):
        made.update(np.zeros((2, 3)))
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match=r"1 of 3 rows .* the first is row 1"):
            made.update(np.array([[0.0] * 4, [0, bad, 0, 0], [0] * 4]))
    assert made.count == 1
    with pytest.raises(UserError, match="of 2 and of 3 dimensions"):
        frechet_distance(about_zero(np.eye(2)), about_zero(np.eye(3)))
