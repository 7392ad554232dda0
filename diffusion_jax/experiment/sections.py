"""The sections of a config that describe a run: not its network, data, objective or optimizer.

Those are declared beside what they describe; `diffusion_jax.experiment.schema` puts all together.
"""

import dataclasses
from typing import Any

from diffusion_jax.autoencoder.scaling import check_scaling
from diffusion_jax.diffusion.schedules import DISCRETE_SCHEDULES, SCHEDULES
from diffusion_jax.diffusion.spacings import MOST_STEPS
from diffusion_jax.errors import UserError
from diffusion_jax.fields import (
    SEED,
    Checked,
    Each,
    Location,
    Number,
    choice,
    count,
    number,
    rate,
    ruled,
)
from diffusion_jax.training.power_ema import WIDEST

AUTOENCODERS = ("none", "stable_diffusion")
TRACKERS = ("none", "wandb", "mlflow")
SIGMA_REL = Number(above=0, at_most=WIDEST)


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """The rule of a scaling of latents: a factor and a shift, or () for what the data say."""

    def __call__(self, name: str, value: Any) -> tuple[float, ...]:
        """Return the two numbers, or (). Raises `UserError` for anything else."""
        numbers = Each(Number())(name, value)
        if len(numbers) not in (0, 2):
            raise UserError(f"{name} is {numbers}: give (scaling_factor, shift_factor)")
        return tuple(check_scaling(name, *numbers)) if numbers else ()

    def __str__(self) -> str:
        return "two numbers, or ()"


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
    """The `train` section: how long to train, and what to do along the way.

    Attributes:
      steps: updates in all.
      batch_size: examples in a step, over all devices.
      accumulate: micro-batches in a step; their gradients are averaged.
      log_every: steps between records in metrics.jsonl.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: number of the newest checkpoints that are kept.
      keep_every: checkpoints at multiples of this step are kept for good; 0 keeps none of them.
      grid_every: steps between sample grids; 0 draws none.
      grid_size: samples in a grid.
      eval_every: steps between scorings of samples; 0 never scores.
      held_out_every: steps between losses of the EMA on held-out data; 0 never takes them.
      held_out_split: split of the held-out data, see `data.split`; '' is 'held_out'.
      held_out_path: path of the held-out data, of the kind that `data` has; '' is data.path.
      held_out_num: number of held-out examples.
      tracker: experiment tracker that gets every record and grid, too; wandb and mlflow are extras.
    """

    steps: int = count(150_000)
    batch_size: int = count(1024)
    accumulate: int = count(1)
    log_every: int = count(100)
    checkpoint_every: int = count(5_000)
    keep_checkpoints: int = count(3)
    keep_every: int = count(0, at_least=0)
    grid_every: int = count(10_000, at_least=0)
    grid_size: int = count(64)
    eval_every: int = count(0, at_least=0)
    held_out_every: int = count(0, at_least=0)
    held_out_split: str = ""
    held_out_path: str = ruled(Location(may_be_empty=True), "")
    held_out_num: int = count(1024)
    tracker: str = choice(TRACKERS, "none")


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(Checked):
    """The `autoencoder` section.

    Attributes:
      name: 'stable_diffusion' for data that are moments of its latents, or of SDXL's, SD3's or
        FLUX's; 'none' for pixels.
      weights: folder or file of its weights, needed to look at samples.
      scaling: (scaling_factor, shift_factor) of the latents; () takes those that
        launch.encode_latents recorded with the data, or Stable Diffusion's.
    """

    name: str = choice(AUTOENCODERS, "none")
    weights: str = ruled(Location(may_be_empty=True), "")
    scaling: tuple[float, ...] = ruled(ScalingRule(), ())


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Checked):
    """The `evaluation` section: how a run scores itself every `train.eval_every` steps.

    Attributes:
      inception: file of the weights of FID's Inception.
      reference: file that launch.reference wrote.
      num: samples that are scored.
    """

    inception: str = ruled(Location(may_be_empty=True), "")
    reference: str = ruled(Location(may_be_empty=True), "")
    num: int = count(5_000, at_least=2)


@dataclasses.dataclass(frozen=True)
class PosthocEmaConfig(Checked):
    """The `posthoc_ema` section: averages from which launch.posthoc_ema reconstructs others.

    Attributes:
      sigma_rels: relative widths of the averages that are tracked (arXiv 2312.02696); () for none.
      every: steps between snapshots of the averages.
    """

    sigma_rels: tuple[float, ...] = ruled(Each(SIGMA_REL), ())
    every: int = count(5_000)


@dataclasses.dataclass(frozen=True)
class MeshConfig(Checked):
    """The `mesh` section: how devices share the work; the rest of them split the batch.

    Attributes:
      fsdp: number of parts into which parameters, moments and EMA are cut.
      tensor: number of parts into which layers are cut, for networks whose parameters say how.
    """

    fsdp: int = count(1)
    tensor: int = count(1)


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Checked):
    """A `schedule` section: the parameters of all schedules, of which each uses some.

    Attributes:
      name: gamma(t), see `diffusion_jax.diffusion.schedules`; betas make a discrete schedule.
      start, end, tau: parameters of a continuous schedule, which ignores those it does not have.
      steps: number of steps of a discrete schedule.
    """

    name: str = choice((*SCHEDULES, *DISCRETE_SCHEDULES), "linear")
    start: float = number(0.0)
    end: float = number(1.0)
    tau: float = number(1.0)
    steps: int = count(1000, at_most=MOST_STEPS)


@dataclasses.dataclass(frozen=True)
class RunConfig(Checked):
    """The fields of a config that are in no section.

    Attributes:
      seed: determines the initial parameters, the order of the examples and all noise.
      ema_decay: decay of the moving average of the parameters.
    """

    seed: int = ruled(SEED, 0)
    ema_decay: float = rate(0.9999)
