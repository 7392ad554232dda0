"""The real Inception sees what is in photographs: its weights are in their places."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.parallel.sharding import make_mesh

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"


def weights() -> Path:
    path = Path(os.environ.get("INCEPTION_WEIGHTS", ROOT / "data" / "inception.npz"))
    if not path.exists():
        pytest.skip(f"{path} is absent: name FID's weights in INCEPTION_WEIGHTS")
    return path


def cifar10_test() -> tuple[np.ndarray, np.ndarray]:
    """Images (10000, 32, 32, 3) uint8 and labels."""
    if not (DATA / "cifar10_test.npz").exists():
        pytest.skip("cifar10_test.npz is not in ../shared/data")
    spec = importlib.util.spec_from_file_location("unpack", DATA / "unpack.py")
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    return unpack.read_cifar(DATA / "cifar10_test.npz")


@pytest.mark.slow
def test_the_nearest_neighbour_of_a_photograph_is_of_its_class():
    """The first 500 test images of CIFAR-10, each against the 499 others, by cosine of `pool`."""
    pretrained = load_inception(weights())
    images, labels = cifar10_test()
    images, labels = images[:500], labels[:500]
    features = make_extractor(pretrained, make_mesh(1), "tf1")(images)
    unit = features.pool / np.linalg.norm(features.pool, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(len(unit), dtype=np.float32)
    hits = np.sum(labels[similarity.argmax(axis=1)] == labels)
    assert abs(hits - 373) <= 1  # 74.6%; rounding may decide a near tie
