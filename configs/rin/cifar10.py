"""CIFAR-10, class-conditional: FID 1.81, IS 10.3 (30.95M parameters).

    python -m launch.train --config=configs/rin/cifar10.py --workdir=runs/cifar10

For one accelerator of 40 GB or more. Data: data/cifar10.npz, the 50,000 training images.
Float32, as the authors trained; they stress the sigmoid schedule, dropout and 1000 DDPM steps.
"""

from configs.base import base, images, rin, schedule


def get_config():
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
    return config
