"""Autoencoders compute what diffusers computes by the config.json beside their weights.

tests/golden/diffussm/vae_settings.npz holds what diffusers 0.42.0 computed with the weights of
`tensors` here; the last test computes it again where diffusers is installed.
"""

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, relative_error
from safetensors.numpy import save_file

from diffusion_jax.autoencoder.model import Autoencoder
from diffusion_jax.autoencoder.moments import from_latents, to_latents
from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.autoencoder.settings import read_settings
from diffusion_jax.autoencoder.weights import assumed, layout, load_safetensors
from diffusion_jax.errors import UserError

PLAIN = "diffusion_pytorch_model.safetensors"
COMMON = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.42.0",
    "act_fn": "silu",
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "force_upcast": True,
    "in_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "layers_per_block": 1,
    "out_channels": 3,
    "sample_size": 512,
}
WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
# What a config.json says beside COMMON -> our attributes beside the defaults.
CASES = {
    "groups": ({"norm_num_groups": 16}, dict(groups=16)),
    "sdxl": ({"scaling_factor": 0.13025}, dict(scaling=Scaling(0.13025, 0.0))),
    "sd3": (
        {**WITHOUT_QUANT, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
        dict(
            use_quant_conv=False,
            use_post_quant_conv=False,
            latent_channels=16,
            scaling=Scaling(1.5305, 0.0609),
        ),
    ),
    "no_attention": (
        {"mid_block_add_attention": False, "act_fn": "swish", "shift_factor": None},
        dict(mid_block_add_attention=False),
    ),
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype(np.float32)


def network(case: str) -> Autoencoder:
    return Autoencoder(block_channels=(32, 64), layers_per_block=1, **CASES[case][1])


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by diffusers' names and shapes, the same wherever they are made."""
    made = {}
    for i, name in enumerate(sorted(shapes)):
        value = 0.1 * np.random.default_rng([0, i]).standard_normal(shapes[name])
        made[name] = (value + ("norm" in name and "weight" in name)).astype(np.float32)
    return made


def save(folder: Path, case: str, dtype=np.float32, file: str = PLAIN, **changes) -> Path:
    """A folder as save_pretrained writes it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(COMMON | CASES[case][0] | changes))
    made = tensors(layout(network(case)).shapes())
    save_file({name: value.astype(dtype) for name, value in made.items()}, folder / file)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_every_setting_is_honoured_as_diffusers_does(tmp_path, case):
    folder = save(tmp_path / "vae", case)
    model, params, sha256 = load_safetensors(folder)
    assert model == network(case)
    assert sha256 == hashlib.sha256((folder / PLAIN).read_bytes()).hexdigest()
    assert assumed(folder) == ""
    moments = model.apply({"params": params}, IMAGES, method="encode")
    latents = to_latents(moments.mean, model.scaling)
    z = from_latents(latents, model.scaling)
    images = model.apply({"params": params}, z, method="decode")
    ours = dict(latents=latents, log_variance=moments.log_variance, images=images)
    with np.load(GOLDEN / "diffussm" / "vae_settings.npz") as golden:
        for name, value in ours.items():
            assert relative_error(value, golden[f"{case}/{name}"]) < 1e-5, name


def check_same(ours, expected):
    assert ours.model == expected.model
    for path in ("encoder", "in", "kernel"), ("decoder", "out", "bias"):
        a, b = ours.params, expected.params
        for part in path:
            a, b = a[part], b[part]
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_a_variant_is_found_by_its_name_and_the_plain_file_goes_first(tmp_path, dtype):
    folder = save(tmp_path / "vae", "groups", dtype, "diffusion_pytorch_model.fp16.safetensors")
    half = load_safetensors(folder)
    assert half.model.groups == 16
    check_same(half, load_safetensors(folder / "diffusion_pytorch_model.fp16.safetensors"))
    whole = load_safetensors(save(folder, "groups"))
    check_same(whole, load_safetensors(folder / PLAIN))
    assert whole.sha256 != half.sha256


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_shards_are_one_network(tmp_path, variant):
    whole = load_safetensors(save(tmp_path / "whole", "sd3"))
    folder = save(tmp_path / "vae", "sd3")
    made = tensors(layout(network("sd3")).shapes())
    (folder / PLAIN).unlink()
    where, names, dot = {}, sorted(made), "." if variant else ""
    for i in range(3):
        file = f"diffusion_pytorch_model{dot}{variant}-0000{i + 1}-of-00003.safetensors"
        save_file({name: made[name] for name in names[i::3]}, folder / file)
        where |= dict.fromkeys(names[i::3], file)
    index = folder / f"{PLAIN}.index.{variant}{dot}json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    check_same(load_safetensors(folder), whole)
    check_same(load_safetensors(index), whole)
    assert load_safetensors(folder).sha256 == load_safetensors(index).sha256 != whole.sha256
    (folder / file).unlink()
    with pytest.raises(UserError, match=rf"{file} is no file"):
        load_safetensors(folder)
    for wrong in (
        "{",
        "[]",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
    ):
        index.write_text(wrong)
        with pytest.raises(UserError, match=r"index.*json is damaged"):
            load_safetensors(folder)
    for elsewhere in ("../vae.safetensors", "/vae.safetensors", "..", "below/vae.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": elsewhere}}))
        with pytest.raises(UserError, match=r"not in its folder|must name safeten|is no file"):
            load_safetensors(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = save(tmp_path / "vae", "groups")
    (folder / PLAIN).rename(folder / "a.safetensors")
    save_file({"encoder.conv_in.bias": np.zeros(32, np.float32)}, folder / "b.safetensors")
    where = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / f"{PLAIN}.index.json").write_text(json.dumps(where))
    with pytest.raises(UserError, match=r"encoder.conv_in.bias is in another shard too"):
        load_safetensors(folder)


def test_a_folder_of_several_weights_wants_one_of_them(tmp_path):
    folder = save(tmp_path / "vae", "groups", file="a.safetensors")
    save(folder, "groups", file="b.safetensors")
    with pytest.raises(UserError, match=r"holds a.safetensors, b.safetensors: give the path"):
        load_safetensors(folder)


def test_without_a_config_of_diffusers_one_line_says_what_is_assumed(tmp_path):
    folder = save(tmp_path / "vae", "sdxl")
    path, config = folder / PLAIN, folder / "config.json"
    assert assumed(path) == ""
    assert load_safetensors(path).model.scaling == Scaling(0.13025, 0.0)
    config.write_text('{"model": {"name": "rin"}, "seed": 0}')
    for given in (folder, path):
        assert assumed(given) == (
            f"{given}: there is no config.json of diffusers beside the weights: assuming "
            "Stable Diffusion's norm_num_groups 32, scaling_factor 0.18215 and shift_factor 0"
        )
    assert load_safetensors(path).model.scaling == Scaling(0.18215, 0.0)
    config.unlink()
    assert "assuming" in assumed(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"_class_name": "AutoencoderTiny"},
            "is of diffusers' AutoencoderTiny: only AutoencoderKL",
        ),
        ({"act_fn": "mish"}, "act_fn is 'mish': it must be silu"),
        ({"act_fn": None}, "act_fn is None"),
        ({"norm_num_groups": 0}, "norm_num_groups is 0: it must be at least 1"),
        ({"norm_num_groups": True}, "norm_num_groups is True"),
        ({"norm_num_groups": 5}, r"each must be a multiple of groups = 5"),
        ({"block_out_channels": [32, 2.5]}, r"block_out_channels is \[32, 2.5\]"),
        ({"block_out_channels": [32, 32]}, r"block_out_channels is \(32, 32\), .*\(32, 64\)"),
        ({"layers_per_block": 2}, "layers_per_block is 2, and the weights beside it have 1"),
        ({"latent_channels": 16}, "latent_channels is 16, and the weights beside it have 4"),
        ({"use_quant_conv": False}, "use_quant_conv is False, and the weights .* have True"),
        ({"use_post_quant_conv": False}, "use_post_quant_conv is False"),
        ({"mid_block_add_attention": False}, "mid_block_add_attention is False"),
        ({"in_channels": 4}, "in_channels is 4 and out_channels 3"),
        (
            {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]},
            "down_block_types is .* it must be DownEncoderBlock2D, all that can be read",
        ),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types has 1 levels"),
        ({"latents_mean": [0.1] * 4}, r"latents_mean is \[0.1, .*it must be null"),
        ({"latents_std": [0.1] * 4}, "latents_std is"),
        ({"scaling_factor": 0}, "scaling_factor is 0: it must be at least 1e-06"),
        ({"scaling_factor": None}, "scaling_factor is None"),
        ({"scaling_factor": float("nan")}, "NaN is no finite number"),
        ({"scaling_factor": 10**400}, "has more than 64 bits"),
        ({"shift_factor": float("inf")}, "Infinity is no finite number"),
        ({"shift_factor": "0.1"}, "shift_factor is '0.1'"),
        ({"use_fourier": True}, "use_fourier is True, which AutoencoderKL did not have"),
    ],
)
def test_settings_that_have_no_counterpart_are_refused_by_name(tmp_path, change, message):
    folder = save(tmp_path / "vae", "groups", **{"norm_num_groups": 32} | change)
    with pytest.raises(UserError, match=message):
        load_safetensors(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b""])
def test_a_damaged_config_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged"):
        read_settings(path)


@pytest.mark.parametrize("case", CASES)
def test_the_golden_file_is_diffusers(case):
    reason = "diffusers and PyTorch are not installed"
    torch = pytest.importorskip("torch", reason=reason)
    diffusers = pytest.importorskip("diffusers", reason=reason)
    public = {k: v for k, v in (COMMON | CASES[case][0]).items() if not k.startswith("_")}
    model = diffusers.AutoencoderKL(**public).eval()
    made = tensors({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in made.items()})
    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).latent_dist
        scale, shift = model.config.scaling_factor, model.config.shift_factor or 0
        latents = (posterior.mean - shift) * scale
        images = model.decode(latents / scale + shift).sample
    found = dict(latents=latents, log_variance=posterior.logvar, images=images)
    with np.load(GOLDEN / "diffussm" / "vae_settings.npz") as golden:
        for name, value in found.items():
            value = value.permute(0, 2, 3, 1).numpy()
            assert relative_error(value, golden[f"{case}/{name}"]) < 1e-6, name
