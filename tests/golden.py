"""Golden data of the official implementations: some beside this file, all in ../shared/golden.

What is not said to be DiffuSSM's is of the official RIN code. Cases whose index entry has a
`reference` were made for this repository, by running the official layers that it names.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion.schedules import make_schedule
from rin_jax.official import model_from_official, params_from_official

GOLDEN = Path(__file__).parent / "golden"
ALL_GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
HERE, SHARED = GOLDEN / "rin", ALL_GOLDEN / "rin"
INDEX = json.loads((HERE / "index.json").read_text())

PREDICTIONS = {"x": "x0", "eps": "eps", "v": "v"}
SAMPLERS = {"ddpm@small": "ddpm_small"}


def cases(kind: str):
    """Index entries of one kind, as test parameters."""
    return [pytest.param(case, id=case["id"]) for case in INDEX if case["kind"] == kind]


def load(case: dict) -> dict[str, np.ndarray]:
    """The arrays of a case; skips the test where its file is not at hand."""
    for folder in (HERE, SHARED):
        if (folder / case["file"]).exists():
            with np.load(folder / case["file"]) as archive:
                return dict(archive)
    pytest.skip(f"{case['file']} is neither in tests/golden nor in ../shared/golden")


def load_diffussm(name: str) -> dict[str, np.ndarray]:
    """The whole golden file where it is at hand, else what the tests have of it."""
    whole = ALL_GOLDEN / "diffussm" / name
    with np.load(whole if whole.exists() else GOLDEN / "diffussm" / name) as archive:
        return dict(archive)


def part(arrays: dict, prefix: str) -> dict[str, np.ndarray]:
    """The arrays under a prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def schedule(name: str):
    """gamma(t) for an official schedule string, as 'sigmoid@-3,3,0.9'."""
    name, _, numbers = name.partition("@")
    if name == "simple_linear":
        return make_schedule("linear")
    if not numbers:
        return make_schedule("cosine_simple")
    start, end, last = numbers.split(",")
    if name == "log":
        start, end = (end, start) if last == "t" else (start, end)
    return make_schedule(name, start=float(start), end=float(end), tau=last)


def network(arguments: dict, arrays: dict, dtype, num_classes: int, condition_tokens: int = 1):
    """(model, params) of a case."""
    model = model_from_official(
        arguments, num_classes, condition_tokens, dtype=dtype, param_dtype=dtype
    )
    return model, params_from_official(part(arrays, "w/"), model, arguments)


def network_of_case(case: dict, arrays: dict, dtype):
    """(model, params) of a whole network, whose condition is of the shape that its calls have."""
    num_classes, tokens = case["num_classes"], 1
    if arrays["call0/t"].ndim == 2:  # gamma, then the label of a video
        num_classes = arrays["call0/t"].shape[1] - 1
    if case["calls"][0]["cond"] == "seq":
        tokens = arrays["call0/cond"].shape[1]
    return network(case["kwargs"], arrays, dtype, num_classes, tokens)


def network_of_config(config: dict, arrays: dict, dtype):
    """(model, params) of a case that stores the official config rather than its arguments."""
    arguments = dict(config["model"])
    size = config["dataset"]["image_size"]
    arguments.update(image_height=size, image_width=size, image_channels=3)
    arguments["cond_on_latent_n"] = int(arguments["cond_on_latent"])
    return network(arguments, arrays, dtype, config["dataset"]["num_classes"])


def condition(kind: str | None, value, dtype) -> Condition:
    """Our condition for an official `cond`."""
    if kind in ("onehot", "zero"):
        return Condition(labels=jnp.where(value.sum(-1) > 0, value.argmax(-1), -1))
    if kind == "seq":
        return Condition(tokens=jnp.asarray(value, dtype))
    if kind == "frames":
        return Condition(frames=jnp.asarray(value, dtype))
    return Condition()


def told(kind: str | None, given: dict, dtype) -> tuple[NoiseLevel, Condition]:
    """Return what our network is told for an official `t` and `cond`.

    A video's `t` is (B, 1 + classes): gamma, then the one-hot label.
    """
    gamma, ours = jnp.asarray(given["t"], dtype), condition(kind, given.get("cond"), dtype)
    if gamma.ndim == 2:
        gamma, ours = gamma[:, 0], ours._replace(tokens=gamma[:, None, 1:])
    return NoiseLevel(gamma), ours


def largest_error(ours, golden) -> float:
    """max |ours - golden|, of equal shapes."""
    ours = np.asarray(ours)
    assert ours.shape == golden.shape
    return float(np.abs(ours - golden).max())


def relative_error(ours, golden) -> float:
    """max |ours - golden| / max |golden|, of equal shapes."""
    return largest_error(ours, golden) / float(np.abs(golden).max())
