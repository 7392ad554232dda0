"""Kinetics-600, 5 frames -> 11, 16 x 64 x 64: FVD 10.8 (1000 steps), IS 17.7 (411M published).

    python -m launch.train --config=rin/kinetics600 --workdir=runs/kinetics600

For 16 or more accelerators of 80 GB, or a TPU slice of that size. Data: data/kinetics600, made by
launch.prepare --source=clips --size=64; training takes 16 frames from anywhere in a clip.
Inferred: all widths and depths (411.8M here), and the recipe: NS's.
The paper counts 2048 tokens for 16 frames; as 5 + 11 frames, each padded to pairs, they are 2304.
"""

from configs.rin.imagenet import imagenet, wide_rin


def get_config():
    """2 x 4 x 4 patches, no classes, arXiv 2212.11972."""
    config = imagenet(64, patch_size=4)
    config.data.path = "data/kinetics600"
    config.model.geometry = dict(
        kind="video",
        frames=16,
        height=64,
        width=64,
        channels=3,
        patch_size=4,
        frames_per_patch=2,
        conditioning_frames=5,
    )
    config.update_from_flattened_dict(wide_rin(blocks=6, latents=256))
    config.model.num_classes = 0
    config.train.steps = 500_000
    return config
