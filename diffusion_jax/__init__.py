"""What every denoiser shares: process, objectives, samplers, training, data, evaluation.

The names below are what a program of one's own needs first. Each is imported when it is first used,
since worker processes that read images need no JAX.
"""

import sys as _sys

from etils import epy as _epy

with _epy.lazy_api_imports(globals()):
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
    from diffusion_jax.experiment.networks import Network as Network
    from diffusion_jax.geometry import Images as Images
    from diffusion_jax.geometry import Tokens as Tokens
    from diffusion_jax.geometry import Video as Video
    from diffusion_jax.parallel.sharding import make_mesh as make_mesh
    from diffusion_jax.sampling.samplers import Sampling as Sampling
    from diffusion_jax.sampling.scan import make_sampler as make_sampler
    from diffusion_jax.training.checkpoints import Checkpoints as Checkpoints
    from diffusion_jax.training.optimizers import OptimizerConfig as OptimizerConfig
    from diffusion_jax.training.optimizers import make_optimizer as make_optimizer
    from diffusion_jax.training.state import TrainState as TrainState
    from diffusion_jax.training.state import create_state as create_state
    from diffusion_jax.training.step import TrainStep as TrainStep
    from diffusion_jax.training.step import make_train_step as make_train_step

__all__ = [name for name in dir(_sys.modules[__name__]) if not name.startswith("_")]
