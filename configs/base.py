"""What config files are made of: a config of all defaults, and the sections that they change.

    config = base(rin())
    config.train.update(steps=150_000, batch_size=256)

Fields and defaults are those of the classes in `diffusion_jax.experiment.schema`. With --help and
--config every command prints them, with their ranges and meanings.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.experiment.schema import default_config
from diffusion_jax.experiment.sections import ScheduleConfig

base = default_config  # a locked config of all defaults around a `model` section


def schedule(name: str, **parameters: Any) -> ConfigDict:
    """Return a `schedule` section; a schedule ignores the parameters that it does not have."""
    return ConfigDict(dataclasses.asdict(ScheduleConfig(name, **parameters)))


def images(size: int, channels: int, patch_size: int) -> dict[str, Any]:
    """Return the geometry of square images."""
    return dict(kind="images", height=size, width=size, channels=channels, patch_size=patch_size)


def rin() -> ConfigDict:
    """Return the `model` section of NS's RIN for ImageNet at 64 pixels."""
    geometry = images(64, channels=3, patch_size=8)
    return ConfigDict(dict(name="rin", geometry=geometry, num_classes=1000))


def diffussm() -> ConfigDict:
    """Return the `model` section of DiffuSSM-XL for the latents of ImageNet at 256 pixels."""
    geometry = images(32, channels=4, patch_size=1)
    return ConfigDict(dict(name="diffussm", geometry=geometry, num_classes=1000))
