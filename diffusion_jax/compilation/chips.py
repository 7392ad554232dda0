"""What a chip can do at most, by its maker's data sheet."""

from typing import NamedTuple


class Chip(NamedTuple):
    """Limits of one chip, of a GPU or of a TPU (both of its cores, where it has two).

    Attributes:
      flops: dense bfloat16 matrix operations per second, a multiply-add being two.
      hbm: bytes of memory.
      hbm_bandwidth: bytes per second.
      link_bandwidth: bytes per second that all links to other chips send together.
    """

    flops: float
    hbm: float
    hbm_bandwidth: float
    link_bandwidth: float


def _chip(teraflops: float, gib: float, gb_per_second: float, link_gb_per_second: float) -> Chip:
    return Chip(teraflops * 1e12, gib * 2**30, gb_per_second * 1e9, link_gb_per_second * 1e9)


# By jax's device_kind.
# TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}, HBM rates and links in Gbps by their older
# editions, which round less. Links of v4: 6 of 50 GB/s, arXiv 2304.01433; its page has 1.1 PB/s for
# the all-reduce of 4096 chips, 269 GB/s each.
# GPUs: NVIDIA's data sheets of A100 (1758950-r4), H100 and H200, and for H100 PCIe its product
# brief (PB-11133). FLOPs are half of those with sparsity; links half of NVLink's bidirectional
# rate, of a bridge between PCIe cards.
CHIPS = {
    "TPU v4": _chip(275, 32, 1200, 300),
    "TPU v5 lite": _chip(197, 16, 819, 200),
    "TPU v5": _chip(459, 95, 2765, 600),
    "TPU v5p": _chip(459, 95, 2765, 600),
    "TPU v6 lite": _chip(918, 32, 1640, 400),
    "NVIDIA A100-SXM4-40GB": _chip(312, 40, 1555, 300),
    "NVIDIA A100-SXM4-80GB": _chip(312, 80, 2039, 300),
    "NVIDIA A100 80GB PCIe": _chip(312, 80, 1935, 300),
    "NVIDIA H100 80GB HBM3": _chip(989, 80, 3350, 450),
    "NVIDIA H100 PCIe": _chip(756, 80, 2000, 300),
    "NVIDIA H200": _chip(989, 141, 4800, 450),
}
