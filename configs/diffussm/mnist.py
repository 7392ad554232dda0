"""MNIST in pixel space, class-conditional, for a laptop; nobody published a row for it.

    python -m launch.train --config=diffussm/mnist --workdir=runs/diffussm_mnist

For one GPU, or some CPU hours. Data: data/mnist.npz, images (60000, 28, 28, 1).
The recipe is that of digits.py at 28 pixels. On one core it took 2.3 hours beside other work; FD of
1,000 samples on Inception's features is 26 at the end, and 20 after half an hour more; --guidance=1
draws the class that was asked for more surely (docs/reproduction.md).
"""

from configs.base import images
from configs.diffussm import digits
from configs.variants import vary


def get_config(variants: str = ""):
    """digits.py's recipe, a wider network, patches of 2, two of them to a position."""
    config = digits.get_config()
    config.data.update(name="npz", path="data/mnist.npz")
    config.model.geometry.update(images(28, channels=1, patch_size=2))
    config.model.update(dim=128, expansion=2, remat="none", unroll=True)
    config.ema_decay = 0.998
    config.optimizer.update(learning_rate=8e-3, warmup_steps=200)
    config.train.update(
        steps=3000,
        batch_size=64,
        log_every=50,
        checkpoint_every=250,
        keep_every=500,
        grid_every=500,
    )
    return vary(config, variants, {"bf16": {"model.dtype": "bfloat16"}})
