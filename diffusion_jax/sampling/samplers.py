"""The samplers by name, and the settings of a reverse process."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.discrete import DiscreteSchedule
from diffusion_jax.diffusion.process import Transition
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.spacings import MOST_STEPS, SPACINGS, spaced_times
from diffusion_jax.errors import UserError
from diffusion_jax.fields import RATE, Checked, Choice, Each, choice, count, number, rate, ruled
from diffusion_jax.sampling.ddim import DDIM
from diffusion_jax.sampling.ddpm import DDPM, large_variance, learned_variance, small_variance
from diffusion_jax.sampling.dpmpp import DPMSolverPP2M
from diffusion_jax.sampling.heun import Heun
from diffusion_jax.sampling.interface import Sampler

SAMPLERS: dict[str, Sampler] = {
    "ddpm": DDPM(large_variance),
    "ddpm_small": DDPM(small_variance),
    "ddpm_learned": DDPM(learned_variance, needs_variance=True),
    "ddim": DDIM(),
    "dpmpp_2m": DPMSolverPP2M(),
    "heun": Heun(),
}


@dataclasses.dataclass(frozen=True)
class Sampling(Checked):
    """How to run the reverse process.

    Attributes:
      schedule: gamma(t) of sampling; a discrete schedule must be that of training.
      sampler: 'ddpm' (variance beta), 'ddpm_small' (that of the posterior), 'ddpm_learned' (the
        network's own), 'ddim', 'dpmpp_2m' or 'heun', which runs the network twice a step.
      steps: number of reverse steps, T.
      guidance: weight w of classifier-free guidance; 0 is none, and costs no second pass.
      guidance_interval: (low, high); guide where low <= gamma <= high (arXiv 2404.07724).
      guided_channels: guide the first so many channels of the data, 0 for all; DiT's results guide
        3 of the 4 latent channels.
      time_shift: td, in steps; moves only the next time, to max(1 - (k + 1 + td) / T, 0).
      carry_decay: d of carry = d old + (1 - d) new; 1 never carries anything.
      spacing: how the T noise levels are spaced; 'auto' takes what suits the sampler.

    Raises:
      UserError: on construction, for an unknown name or a number out of range.
    """

    schedule: Schedule
    sampler: str = ruled(Choice(SAMPLERS), "ddpm")
    steps: int = count(1000, at_most=MOST_STEPS)
    guidance: float = number(0.0)
    guidance_interval: tuple[float, float] = ruled(Each(RATE, fewest=2), (0.0, 1.0))
    guided_channels: int = count(0, at_least=0)
    time_shift: float = number(0.0, above=-1)
    carry_decay: float = rate(0.0)
    spacing: str = choice(SPACINGS, "auto")

    def __post_init__(self):
        super().__post_init__()
        low, high, *more = self.guidance_interval
        if more or low > high:
            raise UserError(
                f"guidance_interval is {self.guidance_interval}: give (low, high) of gamma, "
                "0 <= low <= high <= 1"
            )
        if isinstance(self.schedule, DiscreteSchedule):
            self.respaced()
            if self.time_shift:
                raise UserError(
                    f"time_shift is {self.time_shift}: a discrete schedule has no times between"
                )
            return
        if self.algorithm.needs_variance:
            raise UserError(
                f"sampler is {self.sampler!r}: it needs a discrete schedule, as 'linear_betas'"
            )
        if self.spacing == "ddim":
            raise UserError("spacing is 'ddim': it needs a discrete schedule, as 'linear_betas'")

    @property
    def algorithm(self) -> Sampler:
        """The sampler itself."""
        return SAMPLERS[self.sampler]

    @property
    def chosen_spacing(self) -> str:
        """The spacing that is used, with 'auto' resolved."""
        if self.spacing != "auto":
            return self.spacing
        return self.algorithm.spacing(isinstance(self.schedule, DiscreteSchedule))

    def respaced(self) -> DiscreteSchedule:
        """Return the steps that are taken, for a schedule that is discrete."""
        assert isinstance(self.schedule, DiscreteSchedule)
        return self.schedule.respaced(self.steps, self.chosen_spacing)

    def times(self) -> np.ndarray:
        """Return the time in (0, 1] that each step starts from, (T,) float, decreasing."""
        if isinstance(self.schedule, DiscreteSchedule):
            return (self.respaced().timesteps[::-1] + 1) / len(self.schedule)
        positions = 1 - jnp.arange(self.steps) / self.steps
        return np.asarray(self.at(positions))

    def at(self, positions: jax.Array) -> jax.Array:
        """Turn positions k / T of a continuous schedule into times; see `spaced_times`."""
        assert not isinstance(self.schedule, DiscreteSchedule)
        return spaced_times(positions, self.steps, self.chosen_spacing, self.schedule)


def transitions(sampling: Sampling, dtype: jnp.dtype) -> Transition:
    """Return all steps k = 0..T-1, in arrays (T,).

    Step k leads from position 1 - k/T to max(1 - (k + 1 + td)/T, 0) of a continuous schedule (arXiv
    2208.04202, algorithm 2), or from one of the respaced steps of a discrete schedule to the next.
    """
    k = jnp.arange(sampling.steps)
    if isinstance(sampling.schedule, DiscreteSchedule):
        return sampling.respaced().transition(sampling.steps - 1 - k, dtype)
    now, after = k.astype(dtype), (k + 1).astype(dtype) + sampling.time_shift
    gamma = sampling.schedule(sampling.at(1 - now / sampling.steps))
    gamma_next = sampling.schedule(sampling.at(jnp.maximum(1 - after / sampling.steps, 0.0)))
    # No step starts from gamma = 1, which flat schedules round to: eps would be 0 / 0 there.
    gamma = jnp.minimum(gamma, 1 - jnp.finfo(dtype).epsneg)
    return process.transition(NoiseLevel(gamma), NoiseLevel(gamma_next))
