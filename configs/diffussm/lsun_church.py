"""LSUN-Church 256 x 256, DiffuSSM-XL, unconditional: FID 3.94 (706.2M parameters).

    python -m launch.train --config=configs/diffussm/lsun_church.py --workdir=runs/church

For 8 or more accelerators of 80 GB. Data: data/lsun_church_latents.
The paper does not give the steps; LDM, which it compares with, saw 48M images.
"""

from configs.diffussm.latents import latents


def get_config():
    """XL without classes, for as many images as LDM saw."""
    config = latents(256, "lsun_church", num_classes=0)
    config.train.steps = 188_000
    return config
