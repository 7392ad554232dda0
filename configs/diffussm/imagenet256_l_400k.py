"""ImageNet 256 x 256, DiffuSSM-L after 400K steps: FID 19.3 without guidance (262.6M parameters).

    python -m launch.train --config=configs/diffussm/imagenet256_l_400k.py --workdir=runs/l_400k

For 4 or more accelerators of 40 GB. Data: data/imagenet256_latents.
The depth is not published: DiT-L's 24 is assumed, and the printed width of 786 read as 768.
"""

from configs.diffussm.latents import latents


def get_config():
    """The ablation's L."""
    config = latents(256, "imagenet256", num_classes=1000)
    config.model.update(dim=768, layers=24)
    config.train.steps = 400_000
    return config
