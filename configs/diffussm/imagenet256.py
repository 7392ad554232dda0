"""ImageNet 256 x 256, DiffuSSM-XL: FID 9.07, with guidance 2.28 (707.3M parameters).

    python -m launch.train --config=configs/diffussm/imagenet256.py --workdir=runs/diffussm256

For 8 or more accelerators of 80 GB. Data: data/imagenet256_latents. 660M images seen. The
guided row is assumed to be DiT's scale of 1.5: --config.sampling.guidance=0.5.
The paper claims 673M parameters; by its FLOPs formula the weights are these (see DiffuSSMBlock).
"""

from configs.diffussm.latents import latents


def get_config():
    """XL: 1152 wide, 29 layers, M = 2, 1024 tokens."""
    config = latents(256, "imagenet256", num_classes=1000)
    config.train.steps = 2_578_000
    return config
