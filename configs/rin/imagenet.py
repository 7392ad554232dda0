"""What the ImageNet rows share: data, and the training recipe of arXiv 2301.10972 (NS).

    python -m launch.prepare --path=imagenet/train --size=64 --out=data/imagenet64

makes the data of 64 pixels from a folder of images in one sub-folder to a class.
"""

from ml_collections import ConfigDict

from configs.base import base, images, rin


def imagenet(size: int, patch_size: int, input_scale: float) -> ConfigDict:
    """A class-conditional ImageNet config.

    The network of NS at 64 and 128 pixels, LAMB at 2e-3 with cosine@0.7, batch 1024.

    Args:
      size: of the square images, pixels.
      input_scale: b; where it is not 1 the network sees x_t / std(x_t).
    """
    config = base(rin())
    config.data.update(name="tfds", path=f"data/imagenet{size}", flip=True)
    config.model.geometry.update(images(size, channels=3, patch_size=patch_size))
    config.objective.update(input_scale=input_scale, normalize_input=input_scale != 1.0)
    return config


def constant_rate(config: ConfigDict, steps: int) -> None:
    """NS's recipe from 512 pixels up: a constant learning rate of 1e-3 for `steps`."""
    config.optimizer.update(learning_rate=1e-3, decay="constant")
    config.train.steps = steps


def wide_rin(config: ConfigDict, blocks: int, latents: int) -> None:
    """RIN's own network (arXiv 2212.11972); its unpublished dimensions are inferred.

    Interface width 768 with MLP ratio 2 is the best fit of the published parameter counts by the
    official code's options.
    """
    config.model.update(
        num_latents=latents,
        process_layers=(4,) * blocks,
        latent_dim=1024,
        interface_dim=768,
        interface_mlp_ratio=2,
    )
