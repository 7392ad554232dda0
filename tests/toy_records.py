"""Records that are made of their index."""

import dataclasses
import io
import os
import signal

import numpy as np
from PIL import Image

from diffusion_jax.data.records import BadRecord


def pixels(index: int, height: int = 4) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, 5, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@dataclasses.dataclass
class Images:
    """PNGs in three classes; what is in `bad` cannot be read, `kills` kills the process.

    From `tall` on they are 3,000 pixels high.
    """

    count: int = 10
    bad: tuple[int, ...] = ()
    tall: int = 1000
    kills: int = -1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        if index in self.bad:
            raise BadRecord(f"{index}.png: truncated")
        if index == self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"image": png(pixels(index, 3000 if index >= self.tall else 4)), "label": index % 3}


class Videos:
    """Two videos of three frames, without labels."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict:
        return {"video": [png(pixels(3 * index + frame)) for frame in range(3)]}


def moments(index: int) -> np.ndarray:
    return np.random.default_rng(index).normal(size=(2, 3, 8)).astype(np.float32)


class Latents:
    """Four of them, in two classes."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return {
            "moments": moments(index),
            "moments_flipped": moments(index)[:, ::-1],
            "label": index % 2,
        }
