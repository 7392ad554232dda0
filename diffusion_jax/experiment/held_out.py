"""The loss on held-out data during training."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.data.sources import FittedSource
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import Experiment, build_source
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.metrics import values_of
from diffusion_jax.training.held_out import make_losses
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.state import TrainState

WITH_SPLITS = ("digits", "tfds")  # kinds of data
SPLIT = "held_out"  # where none is named
METRIC = "held_out_loss"


def held_out_source(config: ConfigDict, experiment: Experiment) -> FittedSource:
    """Open the data that `train.held_out_path` and `train.held_out_split` name.

    Raises:
      UserError: if they cannot be opened, do not fit the network, or are what the run trains on.
    """
    train, changed = config.train, config.copy_and_resolve_references()
    if config.data.name not in WITH_SPLITS and not train.held_out_path:
        raise UserError(
            f"train.held_out_every is {train.held_out_every}, and data of data.name="
            f"{config.data.name} have no splits: give other data with train.held_out_path"
        )
    changed.data.path = train.held_out_path or config.data.path
    changed.data.split = train.held_out_split or SPLIT
    same = [changed.data[name] == config.data[name] for name in ("path", "split")]
    if all(same) or (same[0] and config.data.name not in WITH_SPLITS):
        raise UserError(
            f"the held-out data are {changed.data.split!r} of {changed.data.path!r}, which the "
            "run trains on: give another train.held_out_split or train.held_out_path"
        )
    return build_source(changed, experiment)


def measure_held_out(
    config: ConfigDict, experiment: Experiment, mesh: Mesh, workdir: Path
) -> list[Callback]:
    """Return a callback that takes the loss of the EMA on held-out examples, if one is asked for.

    The examples are `train.held_out_num` of all, evenly spread. They and their noise are the same
    every time; see `diffusion_jax.training.held_out.make_losses`.

    Raises:
      UserError: see `held_out_source`; or for held-out data that are named and never used.
    """
    if not config.train.held_out_every:
        for name in ("held_out_split", "held_out_path"):
            if value := config.train[name]:
                raise UserError(
                    f"train.{name} is {value!r}, and train.held_out_every is 0: say how often to "
                    "take the loss on them"
                )
        return []
    source = held_out_source(config, experiment)
    indices = evenly(len(source), config.train.held_out_num).astype(np.int32)
    size = round_up(min(len(indices), config.train.batch_size), mesh)
    losses = make_losses(
        experiment.denoiser,
        experiment.objective,
        mesh,
        seed=config.seed,
        conditioning_frames=experiment.conditioning_frames,
        scaling=experiment.scaling,
    )

    def measure(step: int, state: TrainState) -> dict[str, float]:
        found = []
        for first in range(0, len(indices), size):
            part = np.resize(indices[first : first + size], size)  # the last batch is filled up
            examples = [source.read(int(index)) for index in part]
            batch = {name: np.stack([each[name] for each in examples]) for name in examples[0]}
            found.append(hosts.to_host(losses(state.ema, *hosts.put((batch, part), mesh))))
        return {METRIC: float(np.concatenate(found)[: len(indices)].mean(dtype=float))}

    def is_done(step: int) -> bool:
        return step in values_of(workdir, METRIC)

    return [Callback(config.train.held_out_every, measure, is_done)]
