"""Exported weights come back bit for bit, by anybody's reader too, or what is wrong is named."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from diffusion_jax.errors import UserError
from diffusion_jax.experiment import exports
from diffusion_jax.experiment.exports import (
    PROVENANCE,
    exact_names,
    fingerprint,
    read_export,
    to_params,
    to_tensors,
    write_export,
)
from diffusion_jax.parallel.axes import Declared, complete
from diffusion_jax.storage.files import sha256

SHAPES = {"a": {"kernel": (8, 4), "bias": (4,)}, "blocks": {"ssm": {"log_dt": (3, 5)}, "up": (6,)}}
SIZES = {"a.kernel": 128, "a.bias": 16, "blocks.ssm.log_dt": 60, "blocks.up": 24}
INDEX = "model.safetensors.index.json"


def random_params(shapes: dict = SHAPES, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)

    def made(shape):
        if isinstance(shape, dict):
            return {name: made(below) for name, below in shape.items()}
        return rng.normal(size=shape).astype(np.float32)

    return made(shapes)


PARAMS = random_params()


ABOUT = {"config": "", "weights": "ema", "step": 3, "images_seen": 48, "layout": "ours"}


def write(out: Path, **how) -> Path:
    write_export(out, to_tensors(PARAMS), '{"seed": 0}\n', ABOUT, **how)
    return out


def bits(params: dict) -> dict[str, np.ndarray]:
    return {name: value.view(np.uint32) for name, value in to_tensors(params).items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Of three shards."""
    return write(tmp_path_factory.mktemp("written") / "export", shard_size=90)


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / "export")


@pytest.mark.parametrize("shard_size, files", [(1, 4), (90, 3), (144, 2), (2**31, 1)])
def test_the_round_trip_is_exact_through_shards_of_any_size(tmp_path, shard_size, files):
    folder = write(tmp_path / "deep" / "export", shard_size=shard_size)
    export = read_export(folder)
    found, expected = bits(to_params(export.tensors, PARAMS)), bits(PARAMS)
    assert list(found) == list(expected) == list(SIZES)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert export.provenance["weights"] == "ema"
    assert export.provenance["dtype"] == "float32"
    assert len(export.provenance["shards"]) == files
    assert (folder / "config.json").read_text() == '{"seed": 0}\n'
    assert not list(tmp_path.rglob("*.partial"))


def test_others_find_every_tensor_by_the_index(written):
    index = json.loads((written / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(SIZES.values())
    assert list(index["weight_map"]) == list(SIZES)
    for name, file in index["weight_map"].items():
        tensors = load_file(written / file)
        assert sum(value.nbytes for value in tensors.values()) <= 90 or len(tensors) == 1
        assert tensors[name].nbytes == SIZES[name]
        with safe_open(written / file, "np") as shard:
            assert shard.metadata() == {"format": "pt"}
    files = sorted(path.name for path in written.glob("*.safetensors"))
    assert files == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


@pytest.mark.parametrize("shard_size", [90, 2**31])
def test_hugging_faces_loader_reads_them_all(tmp_path, shard_size):
    reason = "huggingface_hub and PyTorch are not installed"
    torch = pytest.importorskip("torch", reason=reason)
    hub = pytest.importorskip("huggingface_hub", reason=reason)

    def module(shapes: dict) -> "torch.nn.Module":
        made = torch.nn.Module()
        for name, shape in shapes.items():
            if isinstance(shape, dict):
                made.add_module(name, module(shape))
            else:
                made.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
        return made

    made = module(SHAPES)
    loaded = hub.load_torch_model(made, write(tmp_path / "out", shard_size=shard_size), strict=True)
    assert not loaded.missing_keys and not loaded.unexpected_keys
    for name, value in made.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), to_tensors(PARAMS)[name])


def test_weights_that_are_not_finite_are_refused(tmp_path):
    bad = random_params()
    bad["a"]["bias"][2] = np.nan
    write_export(tmp_path / "out", to_tensors(bad), "{}", ABOUT)
    with pytest.raises(UserError, match=r"model.safetensors: a.bias is not finite in 1 of 4"):
        read_export(tmp_path / "out")


def test_exports_that_say_flax_are_still_read(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    for file in provenance["shards"]:
        save_file(load_file(folder / file), folder / file, metadata={"format": "flax"})
        provenance["shards"][file] = sha256(folder / file)
    (folder / "provenance.json").write_text(json.dumps(provenance))
    found = bits(to_params(read_export(folder).tensors, PARAMS))
    for name, value in bits(PARAMS).items():
        np.testing.assert_array_equal(found[name], value)


def test_one_shard_needs_no_index(tmp_path):
    folder = write(tmp_path / "export")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "provenance.json", "model.safetensors"}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_bfloat16_rounds_once_and_leaves_the_state_space_alone(tmp_path):
    kept = "blocks.ssm.log_dt"
    declared = complete(PARAMS)
    declared["blocks"]["ssm"]["log_dt"] = Declared(
        np.zeros((3, 5)), ("layers", "channels"), exact=True
    )
    assert exact_names(declared) == {kept}
    folder = write(tmp_path / "export", dtype="bfloat16", shard_size=40, exact={kept})
    tensors = read_export(folder).tensors
    assert {name for name, value in tensors.items() if value.dtype == np.float32} == {kept}
    total = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    assert total == sum(SIZES.values()) // 2 + SIZES[kept] // 2
    found = to_params(tensors, PARAMS)
    for name, value in to_tensors(PARAMS).items():
        once = value if name == kept else value.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(to_tensors(found)[name], once)
        assert once.dtype == to_tensors(found)[name].dtype == np.float32


def test_what_is_missing_or_changed_is_named(folder):
    file = "model-00002-of-00003.safetensors"
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{file} is not what was exported: its SHA-256 is"):
        read_export(folder)
    (folder / file).unlink()
    with pytest.raises(UserError, match=rf"lacks {file}: copy"):
        read_export(folder)
    (folder / "provenance.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"provenance.json is damaged .*lacks config.*launch.export"
    ):
        read_export(folder)
    with pytest.raises(UserError, match="holds no exported weights"):
        read_export(folder.parent)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "", "a\0b"])
def test_a_shard_must_lie_in_the_folder(folder, name):
    provenance = json.loads((folder / PROVENANCE).read_text())
    (folder / PROVENANCE).write_text(json.dumps(provenance | {"shards": {name: "0" * 64}}))
    with pytest.raises(UserError, match=r"provenance\.json names the file .* not in its folder"):
        read_export(folder)


def test_another_networks_tensors_are_named(folder):
    tensors = read_export(folder).tensors
    shapes = {"a": PARAMS["a"], "blocks": {"ssm": {}, "up": PARAMS["blocks"]["up"]}}
    with pytest.raises(UserError, match=r"1 tensors too many: blocks.ssm.log_dt"):
        to_params(tensors, shapes)
    with pytest.raises(UserError, match=r"a.bias has shape \(4,\), and this network's has \(5,\)"):
        to_params(tensors, PARAMS | {"a": {**PARAMS["a"], "bias": np.zeros(5, np.float32)}})
    with pytest.raises(UserError, match=r"weights lack b.scale"):
        to_params(tensors, PARAMS | {"b": {"scale": np.zeros(1, np.float32)}})
    with pytest.raises(UserError, match=r"a.bias is float64: give float32 or bfloat16"):
        to_params(tensors | {"a.bias": np.zeros(4)}, PARAMS)


def test_a_fingerprint_is_of_the_weights(written, tmp_path):
    provenance = read_export(written).provenance
    again = read_export(write(tmp_path / "again", shard_size=90)).provenance
    assert fingerprint(again) == fingerprint(provenance)
    rounded = read_export(write(tmp_path / "rounded", shard_size=90, dtype="bfloat16"))
    assert fingerprint(rounded.provenance) != fingerprint(provenance)
    for file, digest in provenance["shards"].items():
        assert sha256(written / file) == digest


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    out = tmp_path / "export"
    save_file = exports.save_file

    def save_and_stop(tensors, path, metadata):
        save_file(tensors, path, metadata=metadata)
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "save_file", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        write(out)
    assert not out.exists()
    monkeypatch.undo()
    before = sha256(write(out) / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    with pytest.raises(UserError, match=r"--out .*export is there already: choose another"):
        write(out, dtype="bfloat16")
    assert sha256(out / "model.safetensors") == before


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \((Not a directory|File exists)\)"):
        write(tmp_path / "file" / "export")
    with pytest.raises(UserError, match="--dtype is 'float16'"):
        write(tmp_path / "export", dtype="float16")
    with pytest.raises(UserError, match="--shard_size is 0"):
        write(tmp_path / "export", shard_size=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
