"""ImageNet, class-conditional, on latents: the rows of DiffuSSM (arXiv 2311.18257).

    python -m launch.train --config=diffussm/imagenet:256 --workdir=runs/diffussm256

takes the name of a preset after the colon; `diffussm/imagenet256` is the same, and so on. The data
are data/imagenet256_latents and data/imagenet512_latents; configs/diffussm/latents.py says how they
are made.

    preset         row                          FID / IS                 parameters   accelerators
    256            DiffuSSM-XL                  9.07 / 118.3,            707.3M       8 of 80 GB
                                                guided 2.28 / 259.1
    512            DiffuSSM-XL                  guided 3.41 / 255.1      707.3M       16 of 80 GB
    256_s_400k     DiffuSSM-S, 400K steps       56.1                     34.0M        1 of 40 GB
    256_l_400k     DiffuSSM-L, 400K steps       19.3                     262.6M       4 of 40 GB
    256_xl_400k    DiffuSSM-XL, 400K steps      17.5                     707.3M       8 of 80 GB

The guided rows are assumed to use DiT's scale of 1.5: --config.sampling.guidance=0.5.
The paper claims 673M parameters for XL; by its FLOPs formula the weights are these (see
DiffuSSMBlock). The depths of S and L are not published: those of DiT, 12 and 24, are assumed, and
L's printed width of 786 is read as 768. For XL after 400K steps the paper also has 17.3, without
saying what M it changed, and 21.7 for 2 x 2 patches (--config.model.geometry.patch_size=2).
"""

from ml_collections import ConfigDict

from configs.diffussm.latents import latents
from configs.variants import choose

# By name: pixels of a side, training steps, and the network where it is not XL: 1152 wide, 29
# layers, M = 2. 660M and 302M images were seen in the full runs.
PRESETS = {
    "256": (256, 2_578_000, {}),
    "512": (512, 1_180_000, {}),
    "256_s_400k": (256, 400_000, {"dim": 384, "layers": 12}),
    "256_l_400k": (256, 400_000, {"dim": 768, "layers": 24}),
    "256_xl_400k": (256, 400_000, {}),
}


def get_config(preset: str = "") -> ConfigDict:
    """Return the config of a row.

    Raises:
      UserError: for a name of no preset.
    """
    size, steps, network = choose(preset, PRESETS)
    config = latents(size, f"imagenet{size}", num_classes=1000)
    config.model.update(network)
    config.train.steps = steps
    return config
