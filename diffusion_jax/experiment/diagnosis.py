"""Measure a run's network: loss by noise level, gradient by module, and what the network adds."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from diffusion_jax.console import progress
from diffusion_jax.data.stream import Batch, Stream
from diffusion_jax.diffusion.schedules import noise_level
from diffusion_jax.errors import check_at_least
from diffusion_jax.experiment.build import build, build_source
from diffusion_jax.experiment.drawing import Run
from diffusion_jax.experiment.inside import WORDS, Drawn, watch
from diffusion_jax.experiment.weights import Checkpoint, restore_state
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh, round_up
from diffusion_jax.reporting import inside
from diffusion_jax.storage.json_files import write_json
from diffusion_jax.training.diagnostics import make_gradient, make_level_losses, module_norms
from diffusion_jax.training.state import TrainState

FILE = "diagnostics.json"
LEVELS = 20  # noise levels
SAMPLES = 32  # drawn for the network's own diagnostics


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured, and on which examples.

    Attributes:
      run: the run; its seed decides, with an example's index, the example's noise.
      state: one of its checkpoints.
      batches: (examples, their indices), of one size, put on the mesh.
    """

    run: Run
    state: TrainState
    batches: list[tuple[Batch, np.ndarray]]

    @property
    def examples(self) -> int:
        """The number of examples."""
        return sum(len(indices) for _, indices in self.batches)

    @property
    def carries(self) -> bool:
        """Whether the network was trained to begin with a carry."""
        made = self.run.experiment
        trained = made.objective.self_conditioning != "none"
        return trained and bool(jax.tree.leaves(made.denoiser.initial_carry(1)))

    def program(self, make: Callable, **options: Any) -> Callable:
        """Return what `make_level_losses` or `make_gradient` makes for this network."""
        made = self.run.experiment
        options |= dict(conditioning_frames=made.conditioning_frames, scaling=made.scaling)
        return make(made.denoiser, made.objective, self.run.mesh, seed=self.run.seed, **options)


def level_losses(subject: Subject, times: np.ndarray, bar: tqdm) -> dict[str, np.ndarray]:
    """Return the loss of every example at these times, (T, N), by weights and carry."""
    ways = {", carried": True, ", not carried": False} if subject.carries else {"": False}
    weights = {"EMA": subject.state.ema, "raw": subject.state.params}
    found = {}
    for name, params in weights.items():
        for way, carried in ways.items():
            losses = subject.program(make_level_losses, carried=carried)
            parts = []
            for batch, indices in subject.batches:
                parts.append(hosts.to_host(losses(params, batch, indices, times)))
                bar.update()
            found[name + way] = np.concatenate(parts, axis=1)
    return found


def gradient_norms(subject: Subject, bar: tqdm) -> dict[str, np.ndarray]:
    """Return `module_norms` of the gradient of the training loss at the raw weights."""
    declared = subject.run.experiment.declared
    gradient, total = subject.program(make_gradient, declared=declared), None
    add = jax.jit(functools.partial(jax.tree.map, jnp.add))
    for batch, indices in subject.batches:
        part = gradient(subject.state.params, batch, indices)
        total = part if total is None else add(total, part)
        bar.update()
    count = len(subject.batches)
    return {module: norm / count for module, norm in module_norms(total, declared).items()}


def diagnose(
    config: ConfigDict,
    workdir: Path,
    checkpoint: Checkpoint,
    *,
    num: int,
    batch_size: int,
    seed: int,
    command: str,
) -> list[Path]:
    """Measure a run; write diagnostics.json, and pictures for the report.

    Args:
      config: of the run, with the data and the sampling section to use.
      num: examples to measure on, at least.
      batch_size: examples at a time.
      seed: decides which examples, their noise, and the samples.
      command: what was called.

    Returns:
      The paths of the files that it writes.

    Raises:
      UserError: for data that cannot be read, or a run without a checkpoint.
    """
    check_at_least("sampling.steps", config.sampling.steps, 2)
    experiment, mesh = build(config), make_mesh(**config.mesh)
    source = build_source(config, experiment)
    state = restore_state(workdir, config, experiment, mesh, checkpoint)
    size = round_up(min(num, batch_size), mesh)
    stream = Stream(source, size, seed)
    batches = [
        (hosts.put(stream[i], mesh), np.arange(i * size, (i + 1) * size, dtype=np.int32))
        for i in range(-(-num // size))
    ]
    step = int(state.step)
    run = Run(
        config=config,
        experiment=experiment,
        mesh=mesh,
        seed=seed,
        batch_size=batch_size,
        params=state.ema,
        step=step,
        source=source,
    )
    subject = Subject(run, state, batches)
    times = (np.arange(LEVELS, dtype=np.float32) + np.float32(0.5)) / np.float32(LEVELS)
    with progress(len(batches) * (5 if subject.carries else 3), "batches") as bar:
        losses = level_losses(subject, times, bar)
        gradient = gradient_norms(subject, bar)
    parameters = module_norms(state.params, experiment.declared)
    gamma = np.asarray(noise_level(experiment.objective.schedule, jnp.asarray(times)).gamma)
    figures = watch(run, SAMPLES)
    own, drawn = figures.diagnostics() if figures else ({}, [])
    record = {
        "command": command,
        "step": step,
        "examples": subject.examples,
        "split": config.data.split,
        "t": times.tolist(),
        "gamma": gamma.tolist(),
        "loss": {
            name: {
                "mean": found.mean(axis=1).tolist(),
                "standard_error": (found.std(axis=1) / found.shape[1] ** 0.5).tolist(),
            }
            for name, found in losses.items()
        },
        "gradient_norm": {module: norm.tolist() for module, norm in gradient.items()},
        "parameter_norm": {module: norm.tolist() for module, norm in parameters.items()},
        **own,
    }
    path = workdir / FILE
    write_json(path, record)
    drawn.insert(0, draw_losses(subject, times, gamma, losses))
    drawn.insert(1, draw_norms(subject, gradient, parameters))
    return [path, *(each.save(workdir, step, command) for each in drawn)]


def draw_losses(
    subject: Subject, times: np.ndarray, gamma: np.ndarray, losses: dict[str, np.ndarray]
) -> Drawn:
    """Draw the loss over t, and what carrying changes in it."""
    panels = {f"loss ({subject.run.experiment.objective.loss})": losses}
    marks = np.linspace(0, LEVELS - 1, 5).round().astype(int)
    levels = ", ".join(f"{gamma[i]:.3g} at {times[i]:.3g}" for i in marks)
    values = dict(times=LEVELS, examples=subject.examples, levels=levels, carried="")
    if subject.carries:
        gain = {
            name: losses[f"{name}, carried"] - losses[f"{name}, not carried"]
            for name in ("EMA", "raw")
        }
        panels["carried - not carried"] = gain
        values["carried"] = (
            "Carried: the pass begins with the latents of a pass before it, as training with "
            "self-conditioning does. Below: what that changes, example by example; mean over t "
            f"of the EMA {gain['EMA'].mean():.2g}."
        )
    shown = dict(panels=panels, x=times, x_name="t, from image to noise", logarithmic=[*panels][:1])
    return Drawn("loss", inside.draw_curves, shown, WORDS, values)


def draw_norms(
    subject: Subject, gradient: dict[str, np.ndarray], parameters: dict[str, np.ndarray]
) -> Drawn:
    """Draw the norms of gradient and parameters, and their ratio, by module."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {name: gradient[name] / parameters[name] for name in gradient}
    whole = np.sqrt(sum(np.square(norm).sum() for norm in gradient.values()))
    largest = max(gradient, key=lambda name: gradient[name].max())
    panels = {
        "norm of the gradient": gradient,
        "norm of the parameters": parameters,
        "gradient / parameters": ratio,
    }
    values = dict(examples=subject.examples, whole=whole, largest=largest)
    return Drawn("gradient", inside.draw_modules, dict(panels=panels), WORDS, values)
