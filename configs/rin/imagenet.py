"""ImageNet, class-conditional: the rows of NS (arXiv 2301.10972) and of RIN (arXiv 2212.11972).

    python -m launch.prepare --path=imagenet/train --size=64 --out=data/imagenet64
    python -m launch.train --config=rin/imagenet:64 --workdir=runs/imagenet64

The first command makes the data of 64 pixels from a folder of images in one sub-folder to a class;
the second takes the name of a preset after the colon. `rin/imagenet64` is the same as
`rin/imagenet:64`, and so on.

    preset      row   FID / IS                parameters   accelerators of 80 GB, at least
    64          NS    2.04 / 55.8             214.5M        8
    128         NS    3.50 / 120.4            214.6M        8
    256         NS    3.52 / 186.2            319.0M       16
    512         NS    3.95 / 216              320.6M       32
    768         NS    5.60 / 196.2            408.3M       64
    1024        NS    8.72 / 163.9            412.0M       64
    64_small    the official code's config    157.8M        8, of 40 GB; no result was published
    64_rin      RIN   1.23 / 66.5             277.9M        8; 281M published
    128_rin     RIN   2.75 / 144.1            411.7M       16; 410M published
    256_rin     RIN   4.51 / 161.0            412.0M       16; 410M published

All follow NS's recipe: LAMB at 2e-3 with cosine@0.7, batch 1024. The RIN paper prints neither
widths and depths nor its recipe, so those of the presets *_rin are inferred; its rows at 512 and
1024 pixels are NS's.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.base import base, images, rin, schedule
from configs.variants import choose

# From 512 pixels up, NS's learning rate is constant at 1e-3.
_CONSTANT = {"optimizer.learning_rate": 1e-3, "optimizer.decay": "constant", "model.remat": "full"}
_LARGE = {
    "model.num_latents": 256,
    "model.process_layers": (8,) * 6,
    "objective.label_dropout": 0.1,
}
_MEDIUM = {"model.num_latents": 256, "model.process_layers": (6,) * 6}


def wide_rin(blocks: int, latents: int) -> dict[str, Any]:
    """Return the changes that make RIN's own network (arXiv 2212.11972).

    Its dimensions are unpublished: interface width 768 with MLP ratio 2 is the best fit of the
    published parameter counts by the official code's options.
    """
    return {
        "model.num_latents": latents,
        "model.process_layers": (4,) * blocks,
        "model.latent_dim": 1024,
        "model.interface_dim": 768,
        "model.interface_mlp_ratio": 2,
    }


# By name: pixels of a side, of a patch, the input scale b of NS's table 4, training steps, and what
# else differs from `imagenet`.
PRESETS = {
    # NS table 1; at 64 pixels gamma is 1 - t (table 3).
    "64": (64, 8, 1.0, 150_000, {}),
    "128": (128, 8, 0.6, 250_000, {}),
    # Table 1 prints b = 0.5; the FID of 3.52 is table 4's, at b = 0.4.
    "256": (256, 8, 0.4, 250_000, _MEDIUM),
    "512": (
        *(512, 8, 0.2, 1_000_000),
        {**_MEDIUM, **_CONSTANT, "objective.schedule": schedule("cosine", start=0.2)},
    ),
    "768": (768, 8, 0.1, 1_000_000, {**_LARGE, **_CONSTANT}),
    "1024": (1024, 8, 0.1, 910_000, {**_LARGE, **_CONSTANT}),
    "64_small": (64, 8, 1.0, 150_000, {"model.process_layers": (4,) * 4}),
    # RIN's own rows, without input scale. The one at 64 pixels is after 300K updates.
    "64_rin": (64, 4, 1.0, 300_000, wide_rin(blocks=4, latents=256)),
    "128_rin": (128, 4, 1.0, 250_000, wide_rin(blocks=6, latents=128)),
    "256_rin": (256, 8, 1.0, 250_000, wide_rin(blocks=6, latents=256)),
}


def imagenet(size: int, patch_size: int, input_scale: float = 1.0) -> ConfigDict:
    """Return NS's recipe with its network of 64 and 128 pixels.

    Args:
      size: side of the square images, pixels.
      input_scale: b; where it is not 1 the network sees x_t / std(x_t).
    """
    config = base(rin())
    config.data.update(name="tfds", path=f"data/imagenet{size}", flip=True)
    config.model.geometry.update(images(size, channels=3, patch_size=patch_size))
    config.objective.update(input_scale=input_scale, normalize_input=input_scale != 1.0)
    return config


def get_config(preset: str = "") -> ConfigDict:
    """Return the config of a row.

    Raises:
      UserError: for a name of no preset.
    """
    size, patch_size, input_scale, steps, changes = choose(preset, PRESETS)
    config = imagenet(size, patch_size, input_scale)
    config.train.steps = steps
    config.update_from_flattened_dict(changes)
    return config
