"""ImageNet 64 x 64 as in the official code's config: 4 blocks of 4 layers (157.8M parameters).

    python -m launch.train --config=configs/rin/imagenet64_small.py --workdir=runs/imagenet64_small

For 8 or more accelerators of 40 GB, or a TPU slice of that size. Data: data/imagenet64.
No result was published for it.
"""

from configs.rin.imagenet import imagenet


def get_config():
    """The official code's ImageNet-64 sweep."""
    config = imagenet(64, patch_size=8, input_scale=1.0)
    config.model.process_layers = (4,) * 4
    config.train.steps = 150_000
    return config
