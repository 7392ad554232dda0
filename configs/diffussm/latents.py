"""What the rows on Stable Diffusion latents share: DiT's recipe (arXiv 2212.09748).

    python -m launch.encode_latents --path=imagenet/train --size=256 \
      --weights=sd-vae-ft-ema --out=data/imagenet256_latents

makes the data of 256 pixels. To look at samples, training wants the same weights with
--config.autoencoder.weights, or no grids: --config.train.grid_every=0.
"""

from ml_collections import ConfigDict

from configs.base import base, diffussm, images, schedule


def pixels_or_latents() -> ConfigDict:
    """Return what every DiffuSSM config has: XL's network, and DiT's objective and sampler.

    1000 steps of linear beta, uniform t, eps and learned variance, 250 respaced DDPM steps.
    """
    config = base(diffussm())
    discrete = schedule("linear_betas", steps=1000)
    config.objective.update(
        schedule=discrete, variance="learned", self_conditioning="none", clip_x0=False
    )
    config.sampling.update(schedule=discrete, sampler="ddpm_learned", steps=250)
    return config


def latents(size: int, data: str, num_classes: int) -> ConfigDict:
    """A config at XL on f8 latents: AdamW at 1e-4, constant, no decay, batch 256, EMA 0.9999.

    Args:
      size: of the square images, pixels.
      data: name of the set of encoded images.
      num_classes: 0 for unconditional.
    """
    config = pixels_or_latents()
    config.data.update(name="tfds", path=f"data/{data}_latents", flip=True)
    config.autoencoder.name = "stable_diffusion"
    config.model.update(num_classes=num_classes, dtype="bfloat16", remat="full")
    config.model.geometry.update(images(size // 8, channels=4, patch_size=1))
    config.objective.label_dropout = 0.1 if num_classes else 0.0
    config.optimizer.update(
        name="adamw", learning_rate=1e-4, warmup_steps=0, decay="constant", weight_decay=0.0
    )
    config.train.batch_size = 256
    config.sampling.guided_channels = 3
    return config
