"""LSUN-Bedroom 256 x 256, DiffuSSM-XL, unconditional: FID 3.02 (706.2M parameters).

    python -m launch.train --config=configs/diffussm/lsun_bedroom.py --workdir=runs/bedroom

For 8 or more accelerators of 80 GB. Data: data/lsun_bedroom_latents.
The paper does not give the steps; LDM, which it compares with, saw 91M images.
"""

from configs.diffussm.latents import latents


def get_config():
    """XL without classes, for as many images as LDM saw."""
    config = latents(256, "lsun_bedroom", num_classes=0)
    config.train.steps = 355_000
    return config
