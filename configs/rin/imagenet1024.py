"""ImageNet 1024 x 1024, NS: FID 8.72, IS 163.9 (412.0M parameters).

    python -m launch.train --config=configs/rin/imagenet1024.py --workdir=runs/imagenet1024

For 64 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet1024.
"""

from configs.rin.imagenet import constant_rate, imagenet


def get_config():
    """NS table 1, row 1024."""
    config = imagenet(1024, patch_size=8, input_scale=0.1)
    config.model.update(num_latents=256, process_layers=(8,) * 6, remat="full")
    config.objective.label_dropout = 0.1
    constant_rate(config, steps=910_000)
    return config
