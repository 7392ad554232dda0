"""LSUN at 256 x 256, unconditional, on latents: DiffuSSM-XL (706.2M parameters).

    python -m launch.train --config=diffussm/lsun:church --workdir=runs/church

takes the name of a preset after the colon, church (FID 3.94) or bedroom (3.02);
`diffussm/lsun_church` is the same. For 8 or more accelerators of 80 GB. Data:
data/lsun_church_latents, data/lsun_bedroom_latents.
The paper does not give the steps; LDM, which it compares with, saw 48M and 91M images.
"""

from ml_collections import ConfigDict

from configs.diffussm.latents import latents
from configs.variants import choose

# By name: training steps, for as many images as LDM saw.
PRESETS = {"church": 188_000, "bedroom": 355_000}


def get_config(preset: str = "") -> ConfigDict:
    """Return the config of a row.

    Raises:
      UserError: for a name of no preset.
    """
    steps = choose(preset, PRESETS)
    config = latents(256, f"lsun_{preset}", num_classes=0)
    config.train.steps = steps
    return config
