"""A run's network, watched while it samples; what the pictures of launch.inspect are made from."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.denoiser import Condition
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import Experiment, build
from diffusion_jax.experiment.drawing import parse_labels, trace
from diffusion_jax.experiment.grid import make_condition
from diffusion_jax.experiment.weights import Checkpoint, load_weights
from diffusion_jax.geometry import Geometry, Images
from diffusion_jax.parallel.sharding import Mesh, make_mesh, round_up, within
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.pictures import Picture, save_picture
from diffusion_jax.sampling.scan import Pass


class Drawn(NamedTuple):
    """A picture: its words (see `diffusion_jax.reporting.pictures.Picture`), and what draws it."""

    file: str
    title: str
    caption: str
    draw: Callable[[Path], None]

    def save(self, workdir: Path, step: int, command: str) -> Path:
        """Write the picture into a run directory, for the report; return its path."""
        picture = Picture(self.file, "inside", self.title, self.caption, step, command)
        return save_picture(workdir, picture, self.draw)


@dataclasses.dataclass(frozen=True)
class Watched:
    """A network, and the samples at which it is watched. Each network's figures are a subclass.

    Attributes:
      params: the network's parameters.
      mesh: the devices; the number of samples is a multiple of their parts of a batch.
      indices, condition, seed: what decides the samples, see `trace`.
    """

    experiment: Experiment
    params: Any
    mesh: Mesh
    indices: np.ndarray
    condition: Condition
    seed: int

    @property
    def pictures(self) -> tuple[Callable[[], Drawn], ...]:
        """The functions that make the pictures of launch.inspect, in the order they are shown."""
        return ()

    def diagnostics(self) -> tuple[dict[str, Any], list[Drawn]]:
        """Return what launch.diagnose measures of this network alone: its record, and pictures."""
        return {}, []

    @property
    def geometry(self) -> Geometry:
        """The geometry of the network's data."""
        return self.experiment.denoiser.geometry

    @functools.cached_property
    def passes(self) -> Pass:
        """The first pass of every reverse step, in arrays (T, B, ...)."""
        return self.trace()

    def trace(self, **changes: Any) -> Pass:
        """Return `passes` with these fields of `Sampling` changed."""
        samples = (self.indices, self.condition, self.seed)
        return trace(self.experiment, self.params, self.mesh, *samples, **changes)

    def over_passes(self, function: Callable[[Any, Condition, Pass], Any]) -> Callable:
        """Return a function of passes (T, B, ...) that stacks, on the host, the results for each.

        Args:
          function: (params, condition, one pass (B, ...)) -> a pytree of arrays.
        """

        def each(params, condition, passes: Pass) -> Any:
            return jax.lax.map(functools.partial(function, params, condition), passes)

        jitted = jax.jit(within(self.mesh, each))
        return lambda passes: jax.device_get(jitted(self.params, self.condition, passes))

    def spaced(self, count: int) -> np.ndarray:
        """Return at most `count` reverse steps, evenly spread, the first and the last included."""
        return evenly(self.experiment.sampling.steps, count)

    @functools.cached_property
    def gamma(self) -> np.ndarray:
        """The noise levels of the reverse steps, (T,) float."""
        return np.asarray(self.passes.noise.gamma)[:, 0]

    def near(self, *gammas: float) -> np.ndarray:
        """Return the reverse steps whose noise levels are nearest to these."""
        return np.unique(np.abs(self.gamma[:, None] - np.asarray(gammas)).argmin(axis=0))

    def name(self, step: int) -> str:
        """Return the name of a reverse step, with its noise level."""
        return f"step {step + 1}\ngamma {float(self.gamma[step]):.2f}"

    def at(self, steps: np.ndarray) -> Pass:
        """Return the passes of these steps alone."""
        return jax.tree.map(lambda part: part[steps], self.passes)


def figures_of(denoiser: Any) -> type[Watched] | None:
    """Return the class of a network's figures; None if there are none.

    The package of a network may have a module `figures` with a class `Figures`. It is imported
    here, so that nothing else waits for it.
    """
    name = f"{type(denoiser).__module__.partition('.')[0]}.figures"
    try:
        return importlib.import_module(name).Figures
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise
        return None


def inspect(
    config: ConfigDict,
    workdir: Path,
    checkpoint: Checkpoint,
    *,
    num: int,
    labels: str,
    seed: int,
    command: str,
) -> list[Path]:
    """Draw all figures of a run's network, into the run's pictures; return their paths.

    Args:
      config: of the run or export in `workdir`, with the sampling section to use.
      num: samples to measure on, at least.
      labels: see `parse_labels`.
      command: what was called.

    Raises:
      UserError: for a run of videos, a network without figures, or a RIN of latents without the
        weights of its autoencoder.
    """
    check_at_least("sampling.steps", config.sampling.steps, 2)
    experiment = build(config)
    if not isinstance(experiment.denoiser.geometry, Images):
        raise UserError(f"--workdir {workdir} is a run of videos: only images can be inspected")
    if (figures := figures_of(experiment.denoiser)) is None:
        raise UserError(f"--workdir {workdir}: {config.model.name} declares no figures")
    mesh = make_mesh(**config.mesh)
    indices = np.arange(round_up(num, mesh), dtype=np.int32)
    classes = parse_labels(labels, seed, len(indices), experiment.num_classes)
    params, step, _ = load_weights(workdir, config, experiment, mesh, checkpoint)
    condition = make_condition(experiment, None, indices, classes)
    watched = figures(experiment, params, mesh, indices, condition, seed)
    paths = []
    with progress(len(watched.pictures), "pictures") as bar:
        for make in watched.pictures:
            paths.append(make().save(workdir, step, command))
            bar.update()
    return paths
