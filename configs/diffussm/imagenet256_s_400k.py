"""ImageNet 256 x 256, DiffuSSM-S after 400K steps: FID 56.1 without guidance (34.0M parameters).

    python -m launch.train --config=configs/diffussm/imagenet256_s_400k.py --workdir=runs/s_400k

For one accelerator of 40 GB or more. Data: data/imagenet256_latents.
The depth is not published: DiT-S's depth of 12 is assumed.
"""

from configs.diffussm.latents import latents


def get_config():
    """The ablation's S."""
    config = latents(256, "imagenet256", num_classes=1000)
    config.model.update(dim=384, layers=12)
    config.train.steps = 400_000
    return config
