"""ImageNet 64 x 64, RIN's own row: FID 1.23, IS 66.5 at 300K updates (281M parameters published).

    python -m launch.train --config=configs/rin/imagenet64_rin.py --workdir=runs/imagenet64_rin

For 8 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet64.
Inferred: all widths and depths (277.9M here), and the recipe, which is NS's.
"""

from configs.rin.imagenet import imagenet, wide_rin


def get_config():
    """Patch 4, arXiv 2212.11972."""
    config = imagenet(64, patch_size=4, input_scale=1.0)
    wide_rin(config, blocks=4, latents=256)
    config.train.steps = 300_000
    return config
