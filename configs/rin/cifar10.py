"""CIFAR-10, class-conditional: FID 1.81, IS 10.3 (30.95M parameters).

    python -m launch.train --config=rin/cifar10 --workdir=runs/cifar10
    python -m launch.train --config=rin/cifar10:bf16,2h --workdir=runs/cifar10_2h

For one accelerator of 40 GB or more. Data: data/cifar10.npz, the 50,000 training images.
Float32, as the authors trained; they stress the sigmoid schedule, dropout and 1000 DDPM steps.

Variants follow a colon, with commas between them:
- bf16: bfloat16 matmuls.
- linear, cosine, cosine0.2, sigmoid0: the other schedules of NS's table 3 in training, 1 - t,
  cosine(0,1,1), cosine(0.2,1,1) and sigmoid(0,3,0.9); ours is its sigmoid(-3,3,0.9).
- b0.3, b0.4, b0.5, b0.6, b0.8: the scales of the data of NS's table 4, the network's input
  normalised; ours is 1.
- 20min, 2h: as many steps as one H100 trains in nine tenths of that time, scoring not included, at
  110 TFLOP/s, a ninth of its peak. That is assumed and not measured; the FID to expect is not
  known yet.
Samplers need none: --config.sampling.sampler=ddim --config.sampling.steps=100.
"""

from configs.base import base, images, rin, schedule
from configs.variants import Changes, shorter, vary


def get_config(variants: str = ""):
    """The official code's CIFAR-10 setting, and its authors' word in issue 35 of that code."""
    config = base(rin())
    config.data.update(path="data/cifar10.npz", flip=True)
    config.model.geometry.update(images(32, channels=3, patch_size=2))
    config.model.update(
        process_layers=(2, 2, 2),
        latent_dim=512,
        interface_dim=256,
        interface_mlp_ratio=2,
        read_write_heads=8,
        num_classes=10,
        dropout=0.1,
        drop_path=0.1,
        unroll=True,
    )
    config.objective.schedule = schedule("sigmoid", start=-3.0, end=3.0, tau=0.9)
    config.optimizer.update(learning_rate=3e-3, cosine_part=0.8)
    config.train.update(steps=150_000, batch_size=256)
    return vary(
        config,
        variants,
        {
            "bf16": {"model.dtype": "bfloat16"},
            "linear": _training("linear"),
            "cosine": _training("cosine"),
            "cosine0.2": _training("cosine", start=0.2),
            "sigmoid0": _training("sigmoid", end=3.0, tau=0.9),
            **{f"b{scale}": _scaled(scale) for scale in (0.3, 0.4, 0.5, 0.6, 0.8)},
            "20min": shorter(config, 13_500),  # 8.8 TFLOP a step
            "2h": shorter(config, 81_000),
        },
    )


def _training(name: str, **numbers: float) -> Changes:
    fields = schedule(name, **numbers)
    return {f"objective.schedule.{field}": value for field, value in fields.items()}


def _scaled(scale: float) -> Changes:
    return {"objective.input_scale": scale, "objective.normalize_input": True}
