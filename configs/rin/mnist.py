"""MNIST, class-conditional, small enough for a laptop; nobody published a row for it.

    python -m launch.train --config=rin/mnist --workdir=runs/mnist

For one GPU, or some CPU hours. Data: data/mnist.npz, images (60000, 28, 28, 1).
The recipe is that of digits.py at 28 pixels. On one core it took 3 hours beside other work; FD of
1,000 samples on Inception's features is 66 at the end, and 35 after an hour more, with the sigmoid
schedule of cifar10.py (docs/reproduction.md).
"""

from configs.base import images
from configs.rin import digits
from configs.variants import vary


def get_config(variants: str = ""):
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
        unroll=True,
    )
    config.ema_decay = 0.999
    config.optimizer.warmup_steps = 500
    config.train.update(
        steps=8000,
        batch_size=64,
        log_every=100,
        checkpoint_every=500,
        keep_every=1000,
        grid_every=2000,
    )
    return vary(config, variants, {"bf16": {"model.dtype": "bfloat16"}})
