"""Metrics of stored features are those of guided-diffusion's evaluator and of torch-fidelity."""

import numpy as np
import pytest
from golden import load_diffussm

from diffusion_jax.evaluation.frechet import Moments, frechet_distance
from diffusion_jax.evaluation.inception_score import InceptionScore
from diffusion_jax.evaluation.kid import kid
from diffusion_jax.evaluation.precision_recall import precision_recall

GOLDEN = load_diffussm("metrics.npz")
VALUES = {name.replace("/value/", "/"): a for name, a in GOLDEN.items() if "/value/" in name}


def features(case: str) -> tuple[np.ndarray, np.ndarray]:
    """(samples, reference) of a case."""
    if f"{case}/ref" not in GOLDEN:
        pytest.skip(f"the features of {case} are only in ../shared/golden")
    return tuple(GOLDEN[f"{case}/{name}"].reshape(-1, width(case)) for name in ("sample", "ref"))


def width(case: str) -> int:
    return np.prod(GOLDEN[f"{case}/ref"].shape[1:])


def gaussian(x):
    moments = Moments(x.shape[1])
    moments.update(x)
    return moments.gaussian()


@pytest.mark.parametrize(
    "case, name",
    [
        ("pool_a", "fid_evaluator"),
        ("pool_fp32path", "fid_evaluator"),
        ("spatial", "sfid_evaluator"),
    ],
)
def test_fid_and_sfid(case, name):
    ours = frechet_distance(*map(gaussian, features(case)))
    # The evaluator's means are float32.
    assert ours == pytest.approx(float(VALUES[f"{case}/{name}"]), rel=5e-6)


def test_covariance():
    """np.cov's, divided by n - 1."""
    if "pool_a/sigma_ref" not in GOLDEN:
        pytest.skip("the covariance is only in ../shared/golden")
    covariance = gaussian(GOLDEN["pool_a/ref"]).covariance
    np.testing.assert_allclose(covariance, GOLDEN["pool_a/sigma_ref"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["pool_a", "pool_fp32path"])
def test_precision_and_recall(case):
    ours = precision_recall(*features(case))
    assert ours.precision == VALUES[f"{case}/precision_exact64"]
    assert ours.recall == VALUES[f"{case}/recall_exact64"]
    # The evaluator's distances are float16.
    assert abs(ours.precision - VALUES[f"{case}/precision_evaluator"]) < 5e-3
    assert abs(ours.recall - VALUES[f"{case}/recall_evaluator"]) < 5e-3


@pytest.mark.parametrize("case", ["pool_a", "pool_fp32path"])
def test_kid(case):
    ours = kid(*features(case), subsets=20, subset_size=300)
    np.testing.assert_allclose(ours, VALUES[f"{case}/kid"], rtol=5e-6)  # of float32 kernels


def test_kid_of_the_default_subsets():
    np.testing.assert_allclose(kid(*features("pool_a")), VALUES["pool_a/kid_defaults"], rtol=5e-6)


@pytest.mark.parametrize(
    "chunk, name",
    [
        (500, "is_evaluator_split"),  # the third chunk is of 300
        (5000, "is_evaluator_default5000"),
        (130, "isc_torch_fidelity_splits10_shuffle0"),
        (130, "isc_torch_fidelity_splits10_shuffle1"),
    ],
)
def test_inception_score(chunk, name):
    logits = GOLDEN["isc/logits"]
    if name.endswith("shuffle1"):
        logits = logits[np.random.RandomState(2020).permutation(len(logits))]
    score = InceptionScore(logits.shape[1], chunk)
    score.update(logits)
    golden = float(np.ravel(VALUES[f"isc/{name}"])[0])
    assert score.result() == pytest.approx(golden, rel=1e-6)  # the evaluator's is float32
