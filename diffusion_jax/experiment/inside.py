"""A run's network, watched while it samples; what the pictures of launch.inspect are made from."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.denoiser import Condition
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.weights import Checkpoint
from diffusion_jax.geometry import Geometry
from diffusion_jax.parallel.sharding import round_up, within
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.pictures import Picture, read_words, save_picture
from diffusion_jax.sampling.scan import Pass

WORDS = Path(__file__).with_name("pictures.toml")  # titles and captions


class Drawn(NamedTuple):
    """A picture: its words, and what draws it.

    Attributes:
      name: the picture's, and that of its words in the file `words`.
      draw: (path, **arguments) writes a PNG.
      arguments: what it draws.
      words: a TOML file; see `diffusion_jax.reporting.pictures.read_words`.
      values: what the caption mentions.
    """

    name: str
    draw: Callable[..., None]
    arguments: dict[str, Any]
    words: Path
    values: dict[str, Any]

    def save(self, workdir: Path, step: int, command: str) -> Path:
        """Write the picture into a run directory, for the report; return its path."""
        words = read_words(self.words, self.name, **self.values)
        picture = Picture(f"inside_{self.name}.png", "inside", *words, step, command)
        return save_picture(workdir, picture, lambda path: self.draw(path, **self.arguments))


@dataclasses.dataclass(frozen=True)
class Watched:
    """A network, and the samples at which it is watched. Each network's figures are a subclass.

    Attributes:
      run: the run or export.
      indices, condition: of the samples, see `Run.trace`.
    """

    run: Run
    indices: np.ndarray
    condition: Condition

    @property
    def experiment(self) -> Experiment:
        """What the run's config describes."""
        return self.run.experiment

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
        return self.run.trace(self.indices, self.condition, **changes)

    def over_passes(self, function: Callable[[Any, Condition, Pass], Any]) -> Callable:
        """Return a function of passes (T, B, ...) that stacks, on the host, the results for each.

        Args:
          function: (params, condition, one pass (B, ...)) -> a pytree of arrays.
        """

        def each(params, condition, passes: Pass) -> Any:
            return jax.lax.map(functools.partial(function, params, condition), passes)

        jitted = jax.jit(within(self.run.mesh, each))
        return lambda passes: jax.device_get(jitted(self.run.params, self.condition, passes))

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


def watch(run: Run, num: int, labels: str = "") -> Watched | None:
    """Return the figures of a run's network, at `num` samples or more; None if it has none.

    Args:
      labels: see `parse_labels`.

    Raises:
      UserError: for labels that are not classes of the model.
    """
    if (figures := run.experiment.network.load_figures()) is None:
        return None
    places = np.arange(round_up(num, run.mesh))
    classes = parse_labels(labels, run.seed, len(places), run.experiment.num_classes)
    return figures(run, *run.chosen(places, classes, places))


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
    if config.model.geometry.kind != "images":
        raise UserError(f"--workdir {workdir} is a run of videos: only images can be inspected")
    run = open_run(config, workdir, seed, num, checkpoint=checkpoint)
    if (watched := watch(run, num, labels)) is None:
        raise UserError(
            f"--workdir {workdir}: {config.model.name} declares no figures: set "
            "figures='module:Class' in its NETWORK"
        )
    paths = []
    with progress(len(watched.pictures), "pictures") as bar:
        for make in watched.pictures:
            paths.append(make().save(workdir, run.step, command))
            bar.update()
    return paths
