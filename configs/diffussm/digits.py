"""The 1,500 real 8 x 8 digits of scikit-learn, class-conditional, in pixel space.

    python -m launch.train --config=configs/diffussm/digits.py --workdir=runs/diffussm_digits
    python -m launch.quickstart --workdir=runs/diffussm_digits

For a laptop: two CPU cores. Nobody published a row for it.
"""

from configs.base import diffussm, images
from configs.diffussm.latents import pixels_or_latents


def get_config():
    """Four blocks, 64 wide, M = 2, every pixel a token."""
    config = pixels_or_latents(diffussm())
    config.data.name = "digits"
    config.model.geometry.update(images(8, channels=1, patch_size=1))
    config.model.update(
        dim=64, layers=4, state_size=16, num_classes=10, positions="sin_cos", remat="full"
    )
    config.objective.update(clip_x0=True, label_dropout=0.1)
    config.optimizer.update(
        name="adamw", learning_rate=2e-3, warmup_steps=100, decay="cosine", cosine_part=1.0
    )
    config.optimizer.weight_decay = 0.0
    config.ema_decay = 0.995
    config.train.update(
        steps=2500,
        batch_size=64,
        log_every=20,
        checkpoint_every=500,
        keep_checkpoints=2,
        grid_every=1000,
        grid_size=100,
    )
    config.sampling.steps = 50
    return config
