"""The run that comes with the package."""

import numpy as np
import pytest

from diffusion_jax.data.arrays import digits
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.digits import score_digits
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.workdir import read_workdir
from launch.pretrained import DIGITS, unpack_pretrained


def test_it_draws_the_digits_that_it_is_asked_for(tmp_path):
    workdir = unpack_pretrained(tmp_path / "pretrained")
    config = read_workdir(workdir)
    config.sampling.update(sampler="dpmpp_2m", steps=10)
    request = dict(num=56, labels="0,1,2,3,4,5,6,7,8,9", seed=0, batch_size=56)
    with np.load(sample(config, workdir, None, request) / "samples.npz") as archive:
        images, labels = archive["arr_0"], archive["labels"]
    train = digits("train")
    agreement, _, nearest = score_digits(images, labels, train)
    assert agreement > 0.9
    assert nearest > 0.5  # no copies
    np.testing.assert_allclose(images.mean(axis=0), train.images.mean(axis=0), atol=40)
    assert unpack_pretrained(workdir) == workdir  # it is there already


def test_it_is_small():
    assert sum(path.stat().st_size for path in DIGITS.rglob("*") if path.is_file()) < 5e6


def test_another_run_is_not_touched(tmp_path):
    with pytest.raises(UserError, match="holds something else than the pretrained run"):
        unpack_pretrained(tmp_path)
    assert not any(tmp_path.iterdir())
