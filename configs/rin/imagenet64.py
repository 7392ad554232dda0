"""ImageNet 64 x 64, NS: FID 2.04, IS 55.8 (214.5M parameters).

    python -m launch.train --config=configs/rin/imagenet64.py --workdir=runs/imagenet64

For 8 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet64.
"""

from configs.rin.imagenet import imagenet


def get_config():
    """NS table 1, row 64; table 3: training gamma 1 - t."""
    config = imagenet(64, patch_size=8, input_scale=1.0)
    config.train.steps = 150_000
    return config
