"""ImageNet 128 x 128, RIN's own row: FID 2.75, IS 144.1 (410M parameters published).

    python -m launch.train --config=configs/rin/imagenet128_rin.py --workdir=runs/imagenet128_rin

For 16 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet128.
Inferred: all widths and depths (411.7M here), and the recipe: NS's without its input scale.
"""

from configs.rin.imagenet import imagenet, wide_rin


def get_config():
    """Patch 4, arXiv 2212.11972."""
    config = imagenet(128, patch_size=4, input_scale=1.0)
    wide_rin(config, blocks=6, latents=128)
    config.train.steps = 250_000
    return config
