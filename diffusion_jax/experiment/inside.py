"""A run's network, watched while it samples; what the pictures of launch.inspect are made of."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.experiment.build import Experiment
from diffusion_jax.geometry import Geometry
from diffusion_jax.parallel.sharding import Mesh, within
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.sampling.tracing import Passes, make_tracer


class Drawn(NamedTuple):
    """A picture: its words (see `diffusion_jax.reporting.pictures.Picture`), and what draws it."""

    file: str
    title: str
    caption: str
    draw: Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Watched:
    """A network and the samples that it is watched at; for each network there is a class of this.

    Attributes:
      params: the network's.
      mesh: devices; the samples are a multiple of their parts of a batch.
      indices, condition, seed: of the samples, as of `diffusion_jax.sampling.scan.make_sampler`.
    """

    experiment: Experiment
    params: Any
    mesh: Mesh
    indices: np.ndarray
    condition: Condition
    seed: int

    @property
    def geometry(self) -> Geometry:
        """What the network's data are."""
        return self.experiment.denoiser.geometry

    @functools.cached_property
    def passes(self) -> Passes:
        """All passes that make the samples."""
        return self.trace()

    def trace(self, **changes: Any) -> Passes:
        """`passes`, with these fields of `Sampling` changed."""
        made = self.experiment
        tracer = make_tracer(
            made.denoiser,
            made.objective,
            dataclasses.replace(made.sampling, **changes),
            made.sample_shape,
            self.mesh,
            seed=self.seed,
        )
        return tracer(self.params, self.indices, self.condition)

    def over_passes(self, function: Callable[[Any, Condition, Passes], Any]) -> Callable:
        """passes (T, B, ...) -> function(params, condition, pass) of each, stacked, on the host."""

        def each(params, condition, passes: Passes) -> Any:
            return jax.lax.map(functools.partial(function, params, condition), passes)

        jitted = jax.jit(within(self.mesh, each))
        return lambda passes: jax.device_get(jitted(self.params, self.condition, passes))

    def spaced(self, count: int) -> np.ndarray:
        """At most `count` reverse steps, the first and the last among them."""
        return evenly(self.experiment.sampling.steps, count)

    def near(self, *gammas: float) -> np.ndarray:
        """The reverse steps whose noise levels are nearest to these."""
        apart = np.abs(np.asarray(self.passes.noise.gamma)[:, None] - np.asarray(gammas))
        return np.unique(apart.argmin(axis=0))

    def name(self, step: int) -> str:
        """Of a reverse step, with its noise level."""
        return f"step {step + 1}\ngamma {float(self.passes.noise.gamma[step]):.2f}"

    def at(self, steps: np.ndarray) -> Passes:
        """The passes of these steps alone."""
        return jax.tree.map(lambda part: part[steps], self.passes)


def level_of(one: Passes) -> NoiseLevel:
    """The noise level of one pass, for each example."""
    return jax.tree.map(lambda value: jnp.broadcast_to(value, one.x.shape[:1]), one.noise)
