"""ImageNet 256 x 256, RIN's own row: FID 4.51, IS 161.0 (410M parameters published).

    python -m launch.train --config=configs/rin/imagenet256_rin.py --workdir=runs/imagenet256_rin

For 16 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet256.
Inferred: all widths and depths (412.0M here), and the recipe: NS's without its input scale.
RIN's rows at 512 and 1024 are NS's: configs/rin/imagenet512.py, imagenet1024.py.
"""

from configs.rin.imagenet import imagenet, wide_rin


def get_config():
    """Patch 8, arXiv 2212.11972."""
    config = imagenet(256, patch_size=8, input_scale=1.0)
    wide_rin(config, blocks=6, latents=256)
    config.train.steps = 250_000
    return config
