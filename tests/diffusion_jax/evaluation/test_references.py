"""Reference statistics are kept with what they are of, and only compared with their like."""

import numpy as np
import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import ArrayOnDisk, save_archive
from diffusion_jax.evaluation.frechet import Gaussian
from diffusion_jax.evaluation.references import (
    Extraction,
    Reference,
    check_comparable,
    import_guided_diffusion,
    load_reference,
)

RANDOM = np.random.default_rng(0)
HOW = Extraction((64, 32), "tf1", "a" * 64)
IMAGES = RANDOM.integers(0, 256, (7, 6, 4, 3), np.uint8)


def statistics():
    return dict(
        mu=RANDOM.normal(size=4).astype(np.float32),
        sigma=np.eye(4),
        mu_s=RANDOM.normal(size=3).astype(np.float32),
        sigma_s=2 * np.eye(3),
    )


@pytest.fixture
def reference():
    pool, spatial = Gaussian(RANDOM.normal(size=4), np.eye(4)), Gaussian(np.ones(3), np.eye(3))
    features = RANDOM.normal(size=(5, 4)).astype(np.float32)
    return Reference(pool, spatial, features, HOW, 50_000, "fingerprint", "centre")


@pytest.mark.parametrize("features", [True, False])
def test_what_is_saved_is_loaded(tmp_path, reference, features):
    if not features:
        reference = reference._replace(features=None)
    reference.save(tmp_path / "made" / "reference.npz")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["reference.npz"]
    loaded = load_reference(tmp_path / "made" / "reference.npz")
    np.testing.assert_equal(loaded, reference)
    assert loaded.about() == reference.about()


def test_ours_is_read_as_guided_diffusions(tmp_path, reference):
    reference.save(tmp_path / "reference.npz")
    loaded, images = import_guided_diffusion(tmp_path / "reference.npz", "tf1", (64, 32))
    np.testing.assert_equal(loaded.pool, reference.pool)
    assert images is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_guided_diffusions_file(tmp_path, save):
    arrays = statistics()
    save(tmp_path / "VIRTUAL.npz", arr_0=IMAGES, **arrays)
    reference, images = import_guided_diffusion(tmp_path / "VIRTUAL.npz", "tf1")
    np.testing.assert_array_equal(reference.spatial.mean, arrays["mu_s"])
    assert reference.pool.mean.dtype == np.float64
    assert reference.extraction == Extraction((6, 4), "tf1", None)
    assert reference.num_images is None and reference.crop is None
    assert images.shape == IMAGES.shape
    batches = list(images.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), IMAGES)
    np.testing.assert_array_equal(np.concatenate(list(images.batches(2, start=3))), IMAGES[3:])
    features = RANDOM.normal(size=(7, 4))
    assert reference.with_features(features).features.dtype == np.float32
    with pytest.raises(UserError, match=r"not \(N, 4\)"):
        reference.with_features(features[:, :3])
    with pytest.raises(UserError, match="images of 6 x 4 pixels, and 8 x 8 pixels was asked for"):
        import_guided_diffusion(tmp_path / "VIRTUAL.npz", "tf1", (8, 8))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(mu_s=None, sigma_s=None), "has no mu_s, sigma_s among its mu, sigma"),
        (dict(sigma=np.eye(3)), r"a mean of \(4,\) beside a covariance of \(3, 3\)"),
        (dict(mu=np.full(4, np.nan)), "NaN or infinite"),
        (dict(arr_0=IMAGES.astype(np.float32)), r"arr_0 is float32 .*: give uint8"),
        (dict(arr_0=np.array([{}])), "'arr_0', which is pickled and could run code"),
        (dict(arr_0=np.asfortranarray(IMAGES)), "not an array of plain rows"),
    ],
)
def test_files_that_are_none(tmp_path, change, message):
    arrays = {name: a for name, a in (statistics() | change).items() if a is not None}
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(UserError, match=message):
        import_guided_diffusion(tmp_path / "file.npz", "tf1")


def test_unreadable_files(tmp_path):
    path = tmp_path / "file.npz"
    with pytest.raises(UserError, match="does not exist"):
        load_reference(path)
    path.write_bytes(b"no archive")
    for read in (load_reference, lambda path: ArrayOnDisk(path, "arr_0")):
        with pytest.raises(UserError, match="is cut short or no npz file"):
            read(path)
    np.savez(path, **statistics())
    with pytest.raises(UserError, match="holds something else, not reference statistics"):
        load_reference(path)
    with pytest.raises(UserError, match="'arr_0': choose one of mu, mu_s, sigma, sigma_s"):
        ArrayOnDisk(path, "arr_0")
    save_archive(path, "an evaluation begun", {}, {})
    with pytest.raises(UserError, match="holds an evaluation begun"):
        load_reference(path)
    np.savez(path, arr_0=np.ones((1000, 100), np.uint8))
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"no npz file .*Bad CRC"):
        list(ArrayOnDisk(path, "arr_0").batches(3))
    with pytest.raises(UserError, match="cannot be written"):
        save_archive(path / "below", "nothing", {}, {})


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("resolution", (64, 64), "images are of 64 x 32 pixels and 64 x 64 pixels"),
        ("resize", "half_pixel", "resize is tf1 and half_pixel"),
        ("weights", "b" * 64, f"weights are {'a' * 64} and {'b' * 64}"),
    ],
)
def test_only_like_is_compared(field, value, message):
    check_comparable(HOW, HOW._replace(**{field: None}))
    with pytest.raises(UserError, match=message):
        check_comparable(HOW, HOW._replace(**{field: value}))
