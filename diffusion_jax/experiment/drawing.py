"""Load a run or an export, and draw samples from it by their indices."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.data.sources import Source
from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.experiment.weights import NEWEST, Checkpoint, load_weights
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, make_mesh, round_up
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.scan import Pass, Watch, random_labels

NEXT_WINDOW = 2**20  # between the indices whose noise a video's windows have: more than the videos


def inputs_of(one: Pass) -> Pass:
    """Watch what the network is given at each step, and the estimate of x_0, but not x_next."""
    return one._replace(x_next=None, carry_next=None)


class Batch(NamedTuple):
    """Samples that are drawn together; the last batch is filled up with copies of its last sample.

    Attributes:
      start: place of the first among all that are drawn.
      indices: (B,) int32, the samples' indices.
      condition: what they are conditioned on.
      samples: (B, ...) uint8.
      wanted: how many of them were asked for, the first ones.
    """

    start: int
    indices: np.ndarray
    condition: Condition
    samples: np.ndarray
    wanted: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run, or an export, to be sampled.

    Attributes:
      mesh: the devices to sample on.
      seed: decides all noise, with the samples' indices.
      batch_size: samples at a time.
      params: the EMA, or what was exported.
      step: the training step that `params` are from.
      exported: SHA-256 of the export, None for a run.
      source: the data whose first frames videos continue; others need none.
    """

    config: ConfigDict
    experiment: Experiment
    mesh: Mesh
    seed: int
    batch_size: int
    params: Any = None
    step: int = 0
    exported: str | None = None
    source: Source | None = None

    def chosen(
        self, indices: np.ndarray, labels: np.ndarray | None, places: np.ndarray
    ) -> tuple[np.ndarray, Condition]:
        """Return the indices (B,) int32 at these places, and what their samples depend on.

        In a model that continues frames, sample i continues the frames of example i mod N.
        """
        indices, made = indices[places].astype(np.int32), self.experiment
        classes = None if labels is None else labels[places].astype(np.int32)
        frames = None
        if given := made.conditioning_frames:
            source = self.source
            assert source is not None  # such a run is opened with its data
            examples = [source.read(int(i) % len(source)) for i in indices]
            videos = np.stack([example["images"][:given] for example in examples])
            frames = process.to_model_range(videos, made.objective.input_scale)
        return indices, Condition(labels=classes, frames=frames)

    def frames_before(self, indices: np.ndarray) -> np.ndarray | None:
        """Return the given frames (N, frames, H, W, C) uint8 of these samples, None for none."""
        frames = self.chosen(indices, None, np.arange(len(indices)))[1].frames
        if frames is None:
            return None
        return np.asarray(process.to_uint8(frames, self.experiment.objective.input_scale))

    def batches(
        self,
        sampler: Callable[..., np.ndarray],
        indices: np.ndarray,
        labels: np.ndarray | None,
        give: Callable[[np.ndarray], Given] = lambda places: NOTHING,
        start: int = 0,
    ) -> Iterator[Batch]:
        """Draw samples, a batch at a time.

        Args:
          sampler: see `Experiment.sampler`.
          indices: (N,) of the samples, which decide their noise; equal ones share it.
          labels: (N,), None for a model without classes.
          give: places in `indices` (B,) -> what these samples are given.
          start: the place to start from.
        """
        size = round_up(min(self.batch_size, len(indices)), self.mesh)
        for first in range(start, len(indices), size):
            places = np.minimum(np.arange(first, first + size), len(indices) - 1)
            chosen, condition = self.chosen(indices, labels, places)
            samples = sampler(self.params, chosen, condition, give(places))
            yield Batch(first, chosen, condition, samples, min(size, len(indices) - first))

    def draw(
        self, indices: np.ndarray, labels: np.ndarray | None, given: Given = NOTHING
    ) -> np.ndarray:
        """Return (N, ...) uint8 samples; arguments as of `batches`, `given` for all samples."""
        sampler, drawn = self.experiment.sampler(self.mesh, self.seed), []

        def give(places: np.ndarray) -> Given:
            return jax.tree.map(lambda values: values[places], given)

        with progress(len(indices), "images") as bar:
            for batch in self.batches(sampler, indices, labels, give):
                drawn.append(batch.samples[: batch.wanted])
                bar.update(batch.wanted)
        return np.concatenate(drawn)

    def trace(
        self,
        indices: np.ndarray,
        condition: Condition,
        watch: Watch = inputs_of,
        **changes: Any,
    ) -> Any:
        """Draw samples, and return what is watched of each reverse step on the way.

        Args:
          indices, condition: (B,) each, B a multiple of the parts of the mesh's batch.
          watch: see `diffusion_jax.sampling.scan.generate`.
          **changes: fields of `Sampling` to change.

        Returns:
          What `watch` returns, in arrays (T, B, ...) on the devices.
        """
        sampling = dataclasses.replace(self.experiment.sampling, **changes)
        changed = dataclasses.replace(self.experiment, sampling=sampling)
        program = changed.reverse_process(self.mesh, self.seed, watch=watch)
        return program(self.params, *hosts.put((indices, condition, NOTHING), self.mesh))

    def trajectory(
        self, indices: np.ndarray, labels: np.ndarray | None, steps: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Return x_t before these reverse steps, and the estimate of x_0 from it.

        Returns:
          (N, steps, 2, ...) uint8 images.
        """
        places = np.minimum(np.arange(round_up(len(indices), self.mesh)), len(indices) - 1)
        pairs = self.trace(
            *self.chosen(indices, labels, places), lambda one: jnp.stack([one.x, one.x0], axis=1)
        )
        rows = rearrange(hosts.to_host(pairs[np.asarray(steps)]), "t n pair ... -> (n t pair) ...")
        images = self.experiment.to_images(self.mesh)(rows)
        images = rearrange(images, "(n t pair) ... -> n t pair ...", t=len(steps), pair=2)
        return images[: len(indices)]

    def extended(
        self,
        sampler: Callable[..., np.ndarray],
        videos: np.ndarray,
        indices: np.ndarray,
        condition: Condition,
        windows: int,
    ) -> np.ndarray:
        """Continue videos (B, T, H, W, C) uint8 by `windows` - 1 windows of as many frames each.

        Each window continues the last frames of what there is, with noise of its own.
        """
        scale, drawn = self.experiment.objective.input_scale, [videos]
        for window in range(1, windows):
            latest = np.asarray(process.to_model_range(drawn[-1], scale))
            frames = np.concatenate([condition.frames, latest], axis=1)
            condition = condition._replace(frames=frames[:, -self.experiment.conditioning_frames :])
            drawn.append(sampler(self.params, indices + window * NEXT_WINDOW, condition))
        return np.concatenate(drawn, axis=1)


def open_run(
    config: ConfigDict,
    workdir: Path,
    seed: int,
    batch_size: int,
    mesh: Mesh | None = None,
    checkpoint: Checkpoint = NEWEST,
    frames: Source | None = None,
) -> Run:
    """Load a checkpoint of a run, or an export.

    Args:
      config: its config, with the sampling section to use.
      workdir: the run directory, or the export's folder.
      mesh: the devices to sample on, None for the config's.
      checkpoint: the checkpoint of a run.
      frames: what videos continue, None for the run's data.

    Raises:
      UserError: if there are no such weights, or they do not fit the config.
    """
    check_at_least("batch_size", batch_size, 1)
    experiment = build(config)
    source = frames
    if source is None and experiment.conditioning_frames:
        source = build_source(config, experiment)
    mesh = mesh or make_mesh(**config.mesh)
    weights = load_weights(workdir, config, experiment, mesh, checkpoint)
    return Run(
        config=config,
        experiment=experiment,
        mesh=mesh,
        seed=seed,
        batch_size=batch_size,
        params=weights.params,
        step=weights.step,
        exported=weights.sha256,
        source=source,
    )


def parse_labels(text: str, seed: int, num: int, num_classes: int) -> np.ndarray | None:
    """Read the labels of `num` samples.

    Args:
      text: classes, as 3,1,4, given to the samples in turn; '' draws them, keyed by sample index.

    Returns:
      (num,) int32; None for a model without classes.

    Raises:
      UserError: for labels that are not classes of the model.
    """
    if not text and not num_classes:
        return None
    if not text:
        return np.asarray(random_labels(seed, jnp.arange(num), num_classes))
    if not num_classes:
        raise UserError(f"--labels is {text}: this model has no classes; leave the flag out")
    try:
        labels = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--labels is {text!r}: give numbers with commas, as 3,1,4") from error
    for label in labels:
        if not 0 <= label < num_classes:
            raise UserError(f"--labels has {label}: the classes are 0 to {num_classes - 1}")
    return np.resize(np.array(labels, np.int32), num)
