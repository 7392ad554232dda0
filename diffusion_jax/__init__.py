"""What every denoiser shares: process, objectives, samplers, training, data, evaluation.

The names below are what a program of one's own needs first. Each is imported when it is asked for,
since worker processes that read images want no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_jax.data.sources import DataConfig as DataConfig
    from diffusion_jax.data.sources import Source as Source
    from diffusion_jax.data.sources import open_source as open_source
    from diffusion_jax.data.stream import Stream as Stream
    from diffusion_jax.denoiser import Condition as Condition
    from diffusion_jax.denoiser import NoiseLevel as NoiseLevel
    from diffusion_jax.denoiser import Prediction as Prediction
    from diffusion_jax.diffusion.objectives import Objective as Objective
    from diffusion_jax.diffusion.schedules import make_schedule as make_schedule
    from diffusion_jax.errors import UserError as UserError
    from diffusion_jax.geometry import Images as Images
    from diffusion_jax.geometry import Tokens as Tokens
    from diffusion_jax.geometry import Video as Video
    from diffusion_jax.parallel.sharding import make_mesh as make_mesh
    from diffusion_jax.sampling.guidance import Guidance as Guidance
    from diffusion_jax.sampling.samplers import Sampling as Sampling
    from diffusion_jax.sampling.scan import make_sampler as make_sampler
    from diffusion_jax.training.checkpoints import Checkpoints as Checkpoints
    from diffusion_jax.training.optimizers import OptimizerConfig as OptimizerConfig
    from diffusion_jax.training.optimizers import make_optimizer as make_optimizer
    from diffusion_jax.training.state import TrainState as TrainState
    from diffusion_jax.training.state import create_state as create_state
    from diffusion_jax.training.step import TrainStep as TrainStep
    from diffusion_jax.training.step import make_train_step as make_train_step

_HOMES = {
    "Checkpoints": "training.checkpoints",
    "Condition": "denoiser",
    "DataConfig": "data.sources",
    "Guidance": "sampling.guidance",
    "Images": "geometry",
    "NoiseLevel": "denoiser",
    "Objective": "diffusion.objectives",
    "OptimizerConfig": "training.optimizers",
    "Prediction": "denoiser",
    "Sampling": "sampling.samplers",
    "Source": "data.sources",
    "Stream": "data.stream",
    "Tokens": "geometry",
    "TrainState": "training.state",
    "TrainStep": "training.step",
    "UserError": "errors",
    "Video": "geometry",
    "create_state": "training.state",
    "make_mesh": "parallel.sharding",
    "make_optimizer": "training.optimizers",
    "make_sampler": "sampling.scan",
    "make_schedule": "diffusion.schedules",
    "make_train_step": "training.step",
    "open_source": "data.sources",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
