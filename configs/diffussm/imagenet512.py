"""ImageNet 512 x 512, DiffuSSM-XL: FID 3.41 with guidance (707.3M parameters).

    python -m launch.train --config=configs/diffussm/imagenet512.py --workdir=runs/diffussm512

For 16 or more accelerators of 80 GB. Data: data/imagenet512_latents. 302M images seen. The
guided row is assumed to be DiT's scale of 1.5: --config.sampling.guidance=0.5.
"""

from configs.diffussm.latents import latents


def get_config():
    """XL: 1152 wide, 29 layers, M = 2, 4096 tokens."""
    config = latents(512, "imagenet512", num_classes=1000)
    config.train.steps = 1_180_000
    return config
