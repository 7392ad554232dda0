"""CIFAR-10 in pixel space, class-conditional; nobody published a row for it (28.1M parameters).

    python -m launch.train --config=diffussm/cifar10 --workdir=runs/diffussm_cifar10
    python -m launch.train --config=diffussm/cifar10:2h --workdir=runs/diffussm_2h

For one accelerator of 40 GB or more. Data: data/cifar10.npz, the 50,000 training images.
DiT's recipe at DiffuSSM-S's width, a token for each pixel; batch and steps are those of
configs/rin/cifar10.py.

Variants follow a colon, with commas between them:
- fp32: float32 throughout, as RIN's row; here matmuls are in bfloat16.
- 20min, 2h: as many steps as one H100 trains in nine tenths of that time, scoring not included, at
  110 TFLOP/s, as for RIN's row. That is assumed and not measured; the FID to expect is not known.
"""

from configs.base import images
from configs.diffussm.latents import pixels_or_latents
from configs.variants import shorter, vary


def get_config(variants: str = ""):
    """384 wide, 10 layers, M = 2."""
    config = pixels_or_latents()
    config.data.update(path="data/cifar10.npz", flip=True)
    config.model.geometry.update(images(32, channels=3, patch_size=1))
    config.model.update(dim=384, layers=10, num_classes=10, dtype="bfloat16", remat="full")
    config.objective.update(clip_x0=True, label_dropout=0.1)
    config.optimizer.update(
        name="adamw", learning_rate=2e-4, warmup_steps=5000, decay="constant", weight_decay=0.0
    )
    config.train.update(steps=150_000, batch_size=256)
    return vary(
        config,
        variants,
        {
            "fp32": {"model.dtype": "float32"},
            "20min": shorter(config, 4_300),  # 27.3 TFLOP a step, with what is computed again
            "2h": shorter(config, 26_000),
        },
    )
