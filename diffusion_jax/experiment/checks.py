"""What must fit together in a config: network, objective, sampler and autoencoder."""

from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.diffusion.discrete import DiscreteSchedule
from diffusion_jax.diffusion.objectives import Objective
from diffusion_jax.diffusion.schedules import DISCRETE_SCHEDULES
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.networks import Network
from diffusion_jax.geometry import Images
from diffusion_jax.sampling.samplers import SAMPLERS


def check_latents(objective: Objective, geometry: Any) -> None:
    """Raise `UserError` for what latents do not go with."""
    if not isinstance(geometry, Images):
        raise UserError("autoencoder.name is 'stable_diffusion': latents are of images alone")
    if objective.input_scale != 1:
        raise UserError(
            f"objective.input_scale is {objective.input_scale}: latents have the scale of their "
            "autoencoder; set it to 1"
        )


def check_fit(config: ConfigDict, network: Network, denoiser: Any, objective: Objective) -> None:
    """Raise `UserError` where network, objective and sampler are made for different things."""
    has_channels = getattr(denoiser, "learned_variance", False)
    if has_channels != (objective.variance == "learned"):
        raise UserError(
            f"the network has {'' if has_channels else 'no '}learned-variance channels, and "
            f"objective.variance is {objective.variance!r}: change one (the field of networks that "
            "can have them is config.model.learned_variance)"
        )
    sampler = SAMPLERS.get(config.sampling.sampler)  # a wrong name is refused later
    if sampler is not None and sampler.needs_variance and not has_channels:
        raise UserError(
            f"sampling.sampler is {config.sampling.sampler!r}: this network has no "
            "learned-variance channels; choose another"
        )
    training, sampling = config.objective.schedule, config.sampling.schedule
    is_discrete = isinstance(objective.schedule, DiscreteSchedule)
    if network.needs_timesteps and not is_discrete:
        raise UserError(
            f"objective.schedule is {training.name!r}: this network is told the timesteps of a "
            f"discrete schedule; choose one of {', '.join(DISCRETE_SCHEDULES)}"
        )
    if (
        is_discrete or sampling.name in DISCRETE_SCHEDULES
    ) and training.to_dict() != sampling.to_dict():
        raise UserError(
            f"sampling.schedule is {sampling.name!r} and objective.schedule {training.name!r}: a "
            "discrete schedule must be the same in both, with the same steps; sampling.steps "
            "respaces it"
        )


def check_guidance(weight: float, denoiser: Any, objective: Objective) -> None:
    """Raise `UserError` for guidance of a network that was not trained for it."""
    if weight and not (denoiser.num_classes and objective.label_dropout):
        raise UserError(
            f"sampling.guidance is {weight}: it needs a network with classes, "
            "trained with label dropout (config.objective.label_dropout=0.1), and this is none"
        )
