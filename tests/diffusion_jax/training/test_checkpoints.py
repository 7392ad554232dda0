"""Checkpoints come back bit for bit on any mesh, or the fault is named and nothing is lost."""

import contextlib
import os
import resource
import shutil
import tempfile
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint.path import atomicity

from diffusion_jax.errors import UserError
from diffusion_jax.parallel.axes import complete
from diffusion_jax.parallel.sharding import make_mesh, of_state
from diffusion_jax.storage.checksums import checksums
from diffusion_jax.training.checkpoints import Checkpoints, abstract_like, restore_newest
from diffusion_jax.training.optimizers import OptimizerConfig, make_optimizer
from diffusion_jax.training.state import TrainState, create_state


def make(step: int, mesh=None, width=512, **optimizer) -> TrainState:
    """A state of random bits, another for every step."""

    def params():
        return {
            "dense": {"kernel": jnp.zeros((8, width)), "bias": jnp.zeros(8)},
            "norm": {"scale": jnp.zeros(64)},
        }

    def init():
        return create_state(params(), make_optimizer(OptimizerConfig(**optimizer), 10, declared))

    declared = complete(jax.eval_shape(params))

    shapes = jax.eval_shape(init)
    rng = np.random.default_rng(step)
    state = jax.tree.map(
        lambda leaf: np.frombuffer(rng.bytes(4 * leaf.size), leaf.dtype).reshape(leaf.shape), shapes
    )
    sharding = of_state(shapes, mesh or make_mesh(), declared)
    return jax.device_put(state.replace(step=np.int32(step)), sharding)


def template(state: TrainState) -> TrainState:
    return abstract_like(state, jax.tree.map(lambda leaf: leaf.sharding, state))


def write(directory: Path, *steps: int, **options) -> None:
    with contextlib.closing(Checkpoints(directory, **options)) as checkpoints:
        for step in steps:
            checkpoints.save(step, make(step))


def check_same_bits(*states: TrainState) -> None:
    bits = [jax.tree.map(lambda leaf: np.asarray(leaf).view(np.uint32), state) for state in states]
    jax.tree.map(np.testing.assert_array_equal, *bits)


def check_holds(directory: Path, step: int) -> None:
    """The newest whole state is that of `step`."""
    check_same_bits(restore_newest(directory, template(make(0))), make(step))


def steps_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Checkpoints of steps 1 and 2."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    write(directory, 1, 2, keep=2)
    return directory


@pytest.fixture
def directory(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "checkpoints")


def largest(folder: Path) -> Path:
    return max(folder.rglob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "axes",
    [dict(fsdp=4), dict(count=1), dict(fsdp=2, tensor=2), dict(count=4, fsdp=4), dict(fsdp=8)],
    ids=str,
)
def test_a_state_comes_back_bit_for_bit_on_another_mesh(saved, axes):
    mesh = make_mesh(**axes)
    wanted = template(make(0, mesh))
    state = restore_newest(saved, wanted)
    check_same_bits(state, make(2))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding == b.sharding, state, wanted))


@pytest.mark.parametrize("how", ["removed", "emptied", "cut", "flipped"])
@pytest.mark.parametrize(
    "find",
    [
        lambda folder: folder / "_CHECKPOINT_METADATA",
        lambda folder: folder / "default" / "_METADATA",
        lambda folder: folder / "default" / "manifest.ocdbt",
        lambda folder: next(folder.glob("default/d/*")),
        largest,
    ],
    ids=["step metadata", "tree metadata", "manifest", "index", "arrays"],
)
def test_a_damaged_newest_is_reported_and_the_one_before_used(directory, find, how, capfd):
    path = find(directory / "2")
    data = path.read_bytes()
    middle = len(data) // 2
    path.unlink()
    if how != "removed":
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"emptied": b"", "cut": data[:middle], "flipped": flipped}[how])
    before = steps_in(directory)
    check_holds(directory, step=1)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: checkpoint 2 of {directory} is damaged (")
    assert steps_in(directory) == before  # a reader changes nothing


def test_flipped_bits_in_an_array_are_found_though_orbax_reads_it(directory, capfd):
    start = np.asarray(make(2).params["dense"]["kernel"])[0, :4].tobytes()  # random: uncompressed
    files = [path for path in directory.glob("2/**/d/*") if start in path.read_bytes()]
    for path in files:
        data = bytearray(path.read_bytes())
        data[data.index(start)] ^= 1
        path.write_bytes(data)
    assert files
    check_holds(directory, step=1)
    assert "params/dense/kernel is not what was saved" in capfd.readouterr().err


def test_a_run_goes_on_behind_a_damaged_step_and_saves_it_anew(directory):
    shutil.rmtree(directory / "2" / "default")
    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        state = checkpoints.restore_newest(template(make(0)))
        assert int(state.step) == checkpoints.latest() == 1
        checkpoints.save(2, make(2))
    check_holds(directory, step=2)
    assert steps_in(directory) == ["1", "2", "2.damaged"]


def test_what_a_killed_save_leaves_is_no_checkpoint_and_is_removed(directory, capfd):
    (directory / "3").mkdir()
    shutil.copytree(directory / "2", directory / "4.orbax-checkpoint-tmp")
    check_holds(directory, step=2)
    (line,) = capfd.readouterr().err.splitlines()
    assert "checkpoint 3" in line
    write(directory, 5, keep=2)
    assert "4.orbax-checkpoint-tmp" not in steps_in(directory)


def test_no_run_starts_anew_where_all_checkpoints_are_damaged(directory):
    for step in ("1", "2"):
        shutil.rmtree(directory / step / "default" / "d")
    for _ in range(2):  # they are left as they are
        with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
            message = rf"{directory} holds no checkpoint that is whole: 2 damaged.*Put back a copy"
            with pytest.raises(UserError, match=message):
                checkpoints.restore_newest(template(make(0)))


def test_there_is_nothing_to_restore_before_the_first_save(tmp_path):
    assert restore_newest(tmp_path / "none", template(make(0))) is None
    assert not (tmp_path / "none").exists()
    with contextlib.closing(Checkpoints(tmp_path / "new")) as checkpoints:
        assert checkpoints.restore_newest(template(make(0))) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            dict(width=256),
            r"another model: params/dense/kernel has shape \(8, 512\) of float32 there and shape "
            r"\(8, 256\) of float32 here. Go back",
        ),
        (dict(name="adamw"), "another optimizer: opt_state/1 has no arrays there and no place"),
        (dict(name="adamw", weight_decay=0.1), "opt_state/1/inner_state has no place there"),
        (dict(clip_norm=1.0), r"opt_state/0/count has shape \(\) of int32 there and no place here"),
    ],
    ids=["model", "adamw for lamb", "adamw with decay", "clipping"],
)
def test_another_configs_checkpoint_is_refused_by_the_fields_that_differ(saved, other, message):
    with pytest.raises(UserError, match=rf"checkpoint 2 of {saved} holds.*{message}"):
        restore_newest(saved, template(make(0, **other)))


def test_the_newest_are_kept_and_every_fourth(tmp_path):
    write(tmp_path, *range(1, 8), keep=2, keep_every=4)
    assert steps_in(tmp_path) == ["4", "6", "7"]


def test_a_save_returns_before_it_is_on_disk_and_wait_completes_it(tmp_path, monkeypatch):
    may_finish = threading.Event()
    finalize = atomicity.AtomicRenameTemporaryPath.finalize

    async def finalize_later(self, *args, **kwargs):
        assert may_finish.wait(60)
        return await finalize(self, *args, **kwargs)

    monkeypatch.setattr(atomicity.AtomicRenameTemporaryPath, "finalize", finalize_later)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        state = make(1)
        checkpoints.save(1, state)
        assert not (tmp_path / "1").exists()
        jax.tree.map(lambda leaf: leaf.delete(), state)  # as donation to the next step does
        may_finish.set()
        checkpoints.wait()
        check_holds(tmp_path, step=1)


@contextlib.contextmanager
def full(_: Path):
    """Files end at 4 KiB: a write fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(directory: Path):
    """Not writable; for root, permissions bind once it is another user."""
    user = os.geteuid()
    os.chmod(directory, 0o555)
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)
        os.chmod(directory, 0o755)


@contextlib.contextmanager
def replaced(directory: Path):
    """A file in its place."""
    aside = directory.rename(directory.with_name("aside"))
    directory.write_text("")
    yield
    directory.unlink()
    aside.rename(directory)


@pytest.mark.parametrize(
    ("fault", "reason", "end"),
    [
        *((full, "File too large", end) for end in ("save", "wait", "close")),
        (read_only, "Permission denied", "close"),
        (replaced, "Not a directory", "close"),
    ],
)
def test_a_directory_that_cannot_be_written_is_named_and_keeps_what_it_has(
    fault, reason, end, capfd
):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parent:  # threads still write
        os.chmod(parent, 0o755)
        directory = Path(parent) / "checkpoints"
        checkpoints = Checkpoints(directory)
        checkpoints.save(1, make(1))
        checkpoints.wait()
        state = make(2)
        message = rf"cannot be written to {directory} \({reason}\): make room.*last complete"
        with fault(directory), pytest.raises(UserError, match=message):
            checkpoints.save(2, state)
            checkpoints.save(3, state) if end == "save" else getattr(checkpoints, end)()
        checkpoints.close()
        check_holds(directory, step=1)
        assert capfd.readouterr().err == ""


def test_a_step_can_be_chosen(saved):
    check_same_bits(restore_newest(saved, template(make(0)), step=1), make(1))
    with pytest.raises(UserError, match=r"has no checkpoint of step 3, but of 1, 2"):
        restore_newest(saved, template(make(0)), step=3)


def test_a_directory_that_is_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to \S+file \(File exists\)"):
        Checkpoints(tmp_path / "file")


def test_checksums_are_of_the_values_and_their_places_alone():
    state = make(1)
    expected = checksums(state)
    for axes in (dict(count=1), dict(fsdp=4), dict(fsdp=2, tensor=2)):
        assert checksums(make(1, make_mesh(**axes))) == expected
    kernel = np.asarray(state.params["dense"]["kernel"])
    bits = kernel.view(np.uint32).ravel().astype(np.uint64)
    factors = 2 * np.arange(bits.size, dtype=np.uint64) + 1
    assert expected["params/dense/kernel"] == int((bits * factors).sum()) % 2**32
    for changed in (np.roll(kernel, 1, axis=1), np.where(kernel == kernel[3, 7], 0, kernel)):
        assert checksums({"kernel": jnp.asarray(changed)}) != checksums({"kernel": kernel})
