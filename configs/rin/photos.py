"""A folder of images of your own at 64 x 64, not conditioned on anything; nobody published a row.

    python -m launch.prepare --path=photos --size=64 --out=data/photos64
    python -m launch.train --config=rin/photos --workdir=runs/photos

For one GPU, or a day of CPU. With classes, a sub-folder each: --config.model.num_classes=5.
The recipe is that of digits.py at CIFAR-10's learning rate, run for its first steps only.

One variant follows a colon, rin/photos:small: a first look on two CPU cores, at 32 x 32 of the same
data. Its 16 tokens are patches of 8, which the latents learn to relate in a thousand steps; 64
patches of 4 are still a mosaic after that. A token has fewer numbers than its patch and cannot
carry the noise that eps or v contain, so the network predicts x0: skies, horizons and lawns appear,
blurred.
"""

from configs.base import images
from configs.rin import digits
from configs.variants import vary


def get_config(variants: str = ""):
    """A larger network than digits.py's, patches of 4."""
    config = digits.get_config()
    config.data.update(name="tfds", path="data/photos64", flip=True)
    config.model.geometry.update(images(64, channels=3, patch_size=4))
    config.model.update(
        num_latents=64,
        process_layers=(2, 2, 2),
        latent_dim=256,
        latent_heads=8,
        latent_mlp_ratio=4,
        interface_dim=128,
        read_write_heads=8,
        num_classes=0,
    )
    config.ema_decay = 0.9995
    config.optimizer.update(learning_rate=3e-3, warmup_steps=500)
    config.train.update(
        steps=50_000, batch_size=64, log_every=20, checkpoint_every=500, grid_every=1000
    )
    config.train.grid_size = 64
    config.sampling.steps = 250
    return vary(
        config,
        variants,
        {
            "small": {
                "model.geometry.height": 32,
                "model.geometry.width": 32,
                "model.geometry.patch_size": 8,
                "model.num_latents": 16,
                "model.process_layers": (1, 1),
                "model.latent_dim": 128,
                "model.latent_heads": 4,
                "model.interface_dim": 96,
                "model.read_write_heads": 4,
                "objective.prediction": "x0",
                "objective.loss": "x0",
                "ema_decay": 0.995,
                "optimizer.learning_rate": 1e-2,
                "optimizer.warmup_steps": 100,
                "train.steps": 4_000,
                "train.batch_size": 32,
                "train.grid_size": 16,
                "sampling.steps": 50,
            }
        },
    )
