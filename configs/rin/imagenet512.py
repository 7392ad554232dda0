"""ImageNet 512 x 512, NS: FID 3.95, IS 216 (320.6M parameters).

    python -m launch.train --config=configs/rin/imagenet512.py --workdir=runs/imagenet512

For 32 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet512.
"""

from configs.base import schedule
from configs.rin.imagenet import constant_rate, imagenet


def get_config():
    """NS table 1, row 512."""
    config = imagenet(512, patch_size=8, input_scale=0.2)
    config.model.update(num_latents=256, process_layers=(6,) * 6, remat="full")
    config.objective.schedule = schedule("cosine", start=0.2, end=1.0, tau=1.0)
    constant_rate(config, steps=1_000_000)
    return config
