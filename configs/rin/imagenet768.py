"""ImageNet 768 x 768, NS: FID 5.60, IS 196.2 (408.3M parameters).

    python -m launch.train --config=configs/rin/imagenet768.py --workdir=runs/imagenet768

For 64 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/imagenet768.
"""

from configs.rin.imagenet import constant_rate, imagenet


def get_config():
    """NS table 1, row 768."""
    config = imagenet(768, patch_size=8, input_scale=0.1)
    config.model.update(num_latents=256, process_layers=(8,) * 6, remat="full")
    config.objective.label_dropout = 0.1
    constant_rate(config, steps=1_000_000)
    return config
