"""ImageNet 256 x 256, DiffuSSM-XL after 400K steps: FID 17.5 without guidance (707.3M parameters).

    python -m launch.train --config=configs/diffussm/imagenet256_xl_400k.py --workdir=runs/xl_400k

For 8 or more accelerators of 80 GB. Data: data/imagenet256_latents.
The table also has 17.3, without saying what M it changed, and 21.7 for 2 x 2 patches
(--config.model.geometry.patch_size=2); DiT-XL/2 is at 19.47.
"""

from configs.diffussm.latents import latents


def get_config():
    """The ablation's XL."""
    config = latents(256, "imagenet256", num_classes=1000)
    config.train.steps = 400_000
    return config
