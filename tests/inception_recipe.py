"""Weights of FID's Inception that anyone can make, and whose features are known: no 96 MB file."""

import json
import math

import numpy as np
from golden import GOLDEN

NAMES = json.loads((GOLDEN / "diffussm" / "inception_fid_state_dict.json").read_text())["tensors"]
SEED = 1234


def inception_tensors() -> dict[str, np.ndarray]:
    """The tensors of the golden inception.npz, by pytorch-fid's names, float32."""
    return {name: _tensor(i, name, NAMES[name]) for i, name in enumerate(sorted(NAMES))}


def _tensor(i: int, name: str, shape: list[int]) -> np.ndarray:
    bits = np.random.PCG64(np.random.SeedSequence([SEED, i]))
    u = np.random.Generator(bits).random(math.prod(shape)).reshape(shape)
    kind = name.split(".", 1)[1] if name.startswith("fc") else ".".join(name.split(".")[-2:])
    value = {
        "conv.weight": lambda: _centred(u) * (0.28 * math.sqrt(24 / math.prod(shape[1:]))),
        "bn.weight": lambda: 0.5 + u,
        "bn.bias": lambda: 0.2 * (u - 0.5),
        "bn.running_mean": lambda: 0.2 * (u - 0.5),
        "bn.running_var": lambda: 0.02 + 0.98 * u**3,
        "weight": lambda: (2 * u - 1) * math.sqrt(3 / 2048),
        "bias": lambda: 0.2 * (u - 0.5),
    }
    return value[kind]().astype(np.float32)


def _centred(u: np.ndarray) -> np.ndarray:
    return u - u.mean((1, 2, 3), keepdims=True)
