"""MNIST, class-conditional, small enough for a laptop; nobody published a row for it.

    python -m launch.train --config=configs/rin/mnist.py --workdir=runs/mnist

For one GPU, or some CPU hours. Data: data/mnist.npz, images (60000, 28, 28, 1).
The recipe is that of digits.py at 28 pixels; it has been run for its first steps only.
"""

from configs.base import images
from configs.rin import digits


def get_config():
    """digits.py's recipe, a larger network, patches of 4."""
    config = digits.get_config()
    config.data.update(name="npz", path="data/mnist.npz")
    config.model.geometry.update(images(28, channels=1, patch_size=4))
    config.model.update(
        num_latents=32,
        process_layers=(2, 2),
        latent_dim=192,
        latent_heads=8,
        interface_dim=128,
        read_write_heads=8,
    )
    config.ema_decay = 0.9995
    config.optimizer.warmup_steps = 500
    config.train.update(
        steps=20_000, batch_size=128, log_every=100, checkpoint_every=1000, grid_every=2000
    )
    return config
