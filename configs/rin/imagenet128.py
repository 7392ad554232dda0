"""ImageNet 128 x 128, NS: FID 3.50, IS 120.4 (214.6M parameters).

    python -m launch.train --config=configs/rin/imagenet128.py --workdir=runs/imagenet128

For 8 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet128.
"""

from configs.rin.imagenet import imagenet


def get_config():
    """NS table 1, row 128; table 4: input scale 0.6."""
    config = imagenet(128, patch_size=8, input_scale=0.6)
    config.train.steps = 250_000
    return config
