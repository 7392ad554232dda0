"""What the papers print of networks and samples, to stand beside our own figures.

RIN is arXiv 2212.11972, NS 2301.10972 and DiffuSSM 2311.18257, which also prints DiT's and LDM's.
"""

import functools
from typing import NamedTuple

from diffusion_jax.reporting.published import Row


class Cost(NamedTuple):
    """As printed.

    Attributes:
      parameters: millions.
      multiply_adds: billions, of one forward pass of one image; None where none is printed.
      difference: why ours are others, one line.
    """

    parameters: float
    multiply_adds: float | None = None
    difference: str = ""


_XL = (
    "the paper's own FLOPs formula gives 295.6G at 256 pixels and 1182G at 512, for these weight "
    "shapes; its parameter formula leaves W_up out (see DiffuSSMBlock, and model.reading)"
)
_INFERRED = "the paper does not print the sizes; these are inferred from its counts"

# By the config that stands for the row.
COSTS = {
    "diffussm/imagenet256": Cost(673, 280.3, _XL),
    "diffussm/imagenet512": Cost(673, 1066.2, _XL),
    "rin/imagenet64": Cost(214),
    "rin/imagenet128": Cost(215),
    "rin/imagenet256": Cost(319),
    "rin/imagenet512": Cost(320),
    "rin/imagenet768": Cost(408),
    "rin/imagenet1024": Cost(412),
    "rin/imagenet64_rin": Cost(281, None, _INFERRED),
    "rin/imagenet128_rin": Cost(410, None, _INFERRED),
    "rin/imagenet256_rin": Cost(410, None, _INFERRED),
}


def _rin(model, source, config, fid, inception_score=None, updates=None, batch=1024) -> Row:
    """1000 DDPM steps on the cosine schedule, as every FID of both papers."""
    return Row(
        model,
        source,
        config and f"rin/{config}",
        fid,
        inception_score=inception_score,
        sampler="ddpm",
        steps=1000,
        images_seen=updates and updates * batch,
    )


def _dit(model, config, *scores, guidance=0.0, images_seen=None) -> Row:
    """DiT's recipe: 250 respaced DDPM steps. Scores are FID, sFID, IS, precision, recall."""
    return Row(
        model,
        "DiffuSSM",
        config and f"diffussm/{config}",
        *scores,
        guidance=guidance,
        sampler="ddpm_learned",
        steps=250,
        images_seen=images_seen,
    )


_video = functools.partial(Row, source="RIN", samples=None)
_G = 0.5  # the scale 1.5 of DiT's guided rows, assumed for DiffuSSM's
_AT_400K = 400_000 * 256

# By data set.
RESULTS = {
    "CIFAR-10": (_rin("RIN", "RIN", "cifar10", 1.81, 10.3, 150_000, batch=256),),
    "ImageNet 64 x 64": (
        _rin("RIN", "RIN", "imagenet64_rin", 1.23, 66.5),
        _rin("NS", "NS", "imagenet64", 2.04, 55.8, 150_000),
        _rin("NS, cosine(0,1,1)", "NS, table 3", None, 2.71),
        _rin("NS, cosine(0.2,1,1)", "NS, table 3", None, 2.15),
        _rin("NS, sigmoid(-3,3,0.9)", "NS, table 3", None, 2.09),
        _rin("NS, sigmoid(0,3,0.9)", "NS, table 3", None, 2.29),
    ),
    "ImageNet 128 x 128": (
        _rin("RIN", "RIN", "imagenet128_rin", 2.75, 144.1),
        _rin("NS", "NS", "imagenet128", 3.50, 120.4, 250_000),
        _rin("NS, b = 1", "NS, table 3", None, 4.51),
        _rin("NS, b = 1, cosine(0,1,1)", "NS, table 3", None, 7.28),
        _rin("NS, b = 1, cosine(0.2,1,1)", "NS, table 3", None, 4.9),
        _rin("NS, b = 1, sigmoid(-3,3,0.9)", "NS, table 3", None, 5.83),
        _rin("NS, b = 1, sigmoid(0,3,0.9)", "NS, table 3", None, 4.42),
    ),
    "ImageNet 256 x 256": (
        _rin("RIN", "RIN", "imagenet256_rin", 4.51, 161.0),
        _rin("RIN, input scaling", "RIN, version 2", None, 3.42, 182.0),
        _rin("NS, b = 0.4", "NS, table 4", "imagenet256", 3.52, 186.2, 250_000),
        _rin("NS, b = 1", "NS, table 3", None, 7.21),
        _rin("NS, b = 1, cosine(0,1,1)", "NS, table 3", None, 21.6),
        _rin("NS, b = 1, cosine(0.2,1,1)", "NS, table 3", None, 12.3),
        _rin("NS, b = 1, sigmoid(-3,3,0.9)", "NS, table 3", None, 7.19),
        _rin("NS, b = 1, sigmoid(0,3,0.9)", "NS, table 3", None, 5.48),
        _dit("DiT-XL/2", None, 9.62, 6.85, 121.50, 0.67, 0.67, images_seen=1_792_000_000),
        _dit(
            "DiffuSSM-XL",
            "imagenet256",
            *(9.07, 5.52, 118.32, 0.69, 0.64),
            images_seen=660_000_000,
        ),
        _dit("DiT-XL/2-G", None, 2.27, 4.60, 278.24, 0.83, 0.57, guidance=_G),
        _dit("DiffuSSM-XL-G", "imagenet256", 2.28, 4.49, 259.13, 0.86, 0.56, guidance=_G),
    ),
    "ImageNet 256 x 256, 400K steps": (
        _dit("DiffuSSM-S", "imagenet256_s_400k", 56.1, images_seen=_AT_400K),
        _dit("DiffuSSM-L", "imagenet256_l_400k", 19.3, images_seen=_AT_400K),
        _dit("DiffuSSM-XL", None, 17.3, images_seen=_AT_400K),
        _dit("DiffuSSM-XL, M = 2", "imagenet256_xl_400k", 17.5, images_seen=_AT_400K),
        _dit("DiffuSSM-XL, patch 2", None, 21.7, images_seen=_AT_400K),
        _dit("DiT-XL/2", None, 19.47, images_seen=_AT_400K),
    ),
    "ImageNet 512 x 512": (
        _rin("NS", "NS", "imagenet512", 3.95, 216, 1_000_000),
        _dit(
            "DiT-XL/2-G",
            None,
            *(3.04, 5.02, 240.82, 0.84, 0.54),
            guidance=_G,
            images_seen=768_000_000,
        ),
        _dit(
            "DiffuSSM-XL-G",
            "imagenet512",
            *(3.41, 5.84, 255.06, 0.85, 0.49),
            guidance=_G,
            images_seen=302_000_000,
        ),
    ),
    "ImageNet 768 x 768": (_rin("NS", "NS", "imagenet768", 5.60, 196.2, 1_000_000),),
    "ImageNet 1024 x 1024": (_rin("NS", "NS", "imagenet1024", 8.72, 163.9, 910_000),),
    "LSUN-Church 256 x 256": (
        Row("LDM", "DiffuSSM", None, 4.02, images_seen=48_000_000),
        _dit("DiffuSSM", "lsun_church", 3.94),
    ),
    "LSUN-Bedroom 256 x 256": (
        Row("LDM", "DiffuSSM", None, 2.95, images_seen=91_000_000),
        _dit("DiffuSSM", "lsun_bedroom", 3.02),
    ),
    "Kinetics-600, 5 frames to 11, 16 x 64 x 64": (
        _video("RIN", config=None, fvd=11.5, steps=400),
        _video("RIN", config="rin/kinetics600", fvd=10.8, inception_score=17.7, steps=1000),
    ),
}
