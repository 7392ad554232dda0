"""The 1,500 real 8 x 8 digits of scikit-learn, class-conditional, in pixel space.

    python -m launch.train --config=diffussm/digits --workdir=runs/diffussm_digits
    python -m launch.quickstart --workdir=runs/diffussm_digits

For a laptop: two CPU cores. Nobody published a row for it. How often a classifier sees the
asked-for digit in unguided samples, one seed each:
- Learning rate 1.5e-2, clipped at norm 1: 81% after 800 steps, 98% after 2,400; 6e-3: 30% after
  800.
- 2e-3, not clipped: 11% after 1,200 steps, 56% after 2,500. LAMB at 1e-2: 8% after 1,200.
The class starts as small as in DiT (0.02): digits look right long before the right one is drawn.
"""

from configs.base import images
from configs.diffussm.latents import pixels_or_latents


def get_config():
    """Four blocks, 64 wide, M = 2, every pixel a token."""
    config = pixels_or_latents()
    config.data.name = "digits"
    config.model.geometry.update(images(8, channels=1, patch_size=1))
    config.model.update(
        dim=64, layers=4, state_size=16, num_classes=10, positions="sin_cos", remat="full"
    )
    config.objective.update(clip_x0=True, label_dropout=0.1)
    config.optimizer.update(
        name="adamw",
        learning_rate=1.5e-2,
        warmup_steps=100,
        cosine_part=1.0,
        weight_decay=0.0,
        clip_norm=1.0,
    )
    config.ema_decay = 0.995
    config.train.update(
        steps=2400,
        batch_size=64,
        log_every=20,
        checkpoint_every=500,
        keep_checkpoints=2,
        grid_every=800,
        grid_size=100,
    )
    config.sampling.steps = 50
    return config
