"""What an hour of GPU is spent on: cases of the benchmark, the row that is trained; small ones too.

The small ones, of --tiny, rehearse the same stages on a CPU in minutes.
"""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """A program to time: a phase of launch.benchmark, with one value of one field.

    Attributes:
      config: its name; rin/imagenet64 has no variants, so that bfloat16 is a change.
      batch: examples in a batch.
      phase: of `diffusion_jax.benchmarks.phases`.
      field, value: the field that is compared, and its value here.
    """

    config: str
    batch: int
    phase: str
    field: str
    value: str

    @property
    def name(self) -> str:
        """Its name in benchmark.json."""
        return f"{self.config} {self.phase} {self.field}={self.value}"


CIFAR = ("rin/cifar10:bf16", 256)
IMAGENET = ("rin/imagenet64", 128)
DIFFUSSM = ("diffussm/imagenet256", 16)

# In order of worth: time may run out after any of them.
CASES = (
    Case(*CIFAR, "train", "model.attention", "einsum"),
    Case(*CIFAR, "train", "model.attention", "cudnn"),
    Case(*DIFFUSSM, "ssm", "model.form", "fft"),  # with its share of memory bandwidth
    Case(*DIFFUSSM, "ssm", "model.form", "chunked"),
    Case(*IMAGENET, "train", "model.attention", "einsum"),
    Case(*IMAGENET, "train", "model.attention", "cudnn"),
    Case(*DIFFUSSM, "train", "model.form", "fft"),
    Case(*DIFFUSSM, "train", "model.form", "chunked"),
    Case(*CIFAR, "sampler", "model.attention", "einsum"),
    Case(*CIFAR, "sampler", "model.attention", "cudnn"),
    Case(*IMAGENET, "train", "model.remat", "dots"),  # 'none' is the first of its cases
    Case(*IMAGENET, "train", "model.remat", "full"),
    Case(*CIFAR, "train", "model.remat", "dots"),
    Case(*CIFAR, "train", "model.remat", "full"),
)
PRECISION = {"model.dtype": "bfloat16"}

SLOWER = 5  # times, that a rehearsal on a CPU may take; compilation is most of it

# What makes each network small, by its name.
TINY: dict[str, dict[str, Any]] = {
    "rin": {
        "model.num_latents": 4,
        "model.process_layers": (1,),
        "model.latent_dim": 16,
        "model.latent_heads": 2,
        "model.latent_mlp_ratio": 1,
        "model.interface_dim": 8,
        "model.interface_mlp_ratio": 1,
        "model.read_write_heads": 2,
        "model.geometry.patch_size": 8,
    },
    "diffussm": {
        "model.dim": 16,
        "model.layers": 2,
        "model.state_size": 4,
        "model.geometry.patch_size": 8,
    },
}


class Row(NamedTuple):
    """How the row is trained and scored.

    Attributes:
      training: fields of the config that differ from the row's own.
      num, batch, steps: samples to score, at a time, and steps of DDIM for each.
    """

    training: dict[str, Any]
    num: int
    batch: int
    steps: int


# Checkpoints bound what a kill costs; grids are drawn later, from the export.
ROW = Row(
    {"train.checkpoint_every": 500, "train.log_every": 50, "train.grid_every": 0},
    num=5000,
    batch=500,
    steps=100,
)
TINY_ROW = Row(
    {
        **TINY["rin"],
        "train.checkpoint_every": 50,
        "train.log_every": 10,
        "train.grid_every": 0,
        "train.steps": 600,
        "train.batch_size": 8,
        "optimizer.warmup_steps": 10,
        "ema_decay": 0.9,
    },
    num=16,
    batch=8,
    steps=2,
)
