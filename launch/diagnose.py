"""Measures a run's network: loss by noise level, gradient by module, size of the latents.

    python -m launch.diagnose --workdir=runs/digits
    python -m launch.diagnose --workdir=runs/digits --num=297 --split=held_out

Of the newest checkpoint, on at least --num examples of the run's data: the training loss over t, of
raw and EMA weights, with the latents carried and not; norms of the gradient and of the parameters,
by module and layer; and, of RIN, mean, spread, length and largest value of the latents after each
block while it samples, carried and not. Writes diagnostics.json, and pictures for the report.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from diffusion_jax.console import progress, say
from diffusion_jax.data.stream import Batch, Stream
from diffusion_jax.diffusion.schedules import noise_level
from diffusion_jax.errors import check_at_least
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.experiment.drawing import parse_labels
from diffusion_jax.experiment.grid import make_condition
from diffusion_jax.experiment.inside import Drawn
from diffusion_jax.experiment.weights import chosen_checkpoint, define_checkpoint, restore_state
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, make_mesh, round_up
from diffusion_jax.reporting import inside
from diffusion_jax.reporting.pictures import Picture, save_picture
from diffusion_jax.storage.json_files import write_json
from diffusion_jax.training.diagnostics import make_gradient, make_level_losses, module_norms
from diffusion_jax.training.state import TrainState
from launch.common import arguments, cli
from rin_jax import RIN
from rin_jax.figures import STEP, WatchedRIN
from rin_jax.inspection import statistics

FILE = "diagnostics.json"
LEVELS = 20  # of noise
SAMPLES = 32  # whose latents are measured


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured, and on which examples.

    Attributes:
      batches: (examples, their indices), of one size, put on the mesh.
      seed: decides, with an example's index, its noise.
    """

    experiment: Experiment
    state: TrainState
    mesh: Mesh
    batches: list[tuple[Batch, np.ndarray]]
    seed: int

    @property
    def examples(self) -> int:
        return sum(len(indices) for _, indices in self.batches)

    @property
    def carries(self) -> bool:
        """Whether it was trained to begin with a carry."""
        made = self.experiment
        trained = made.objective.self_conditioning != "none"
        return trained and bool(jax.tree.leaves(made.denoiser.initial_carry(1)))

    def program(self, make: Callable, **options) -> Callable:
        """`make_level_losses` or `make_gradient` of this network."""
        made = self.experiment
        data = dict(conditioning_frames=made.conditioning_frames, scaling=made.scaling)
        where = dict(mesh=self.mesh, seed=self.seed)
        return make(made.denoiser, made.objective, **where, **data, **options)


def level_losses(subject: Subject, times: np.ndarray, bar: tqdm) -> dict[str, np.ndarray]:
    """{weights, and whether carried: (T, N) losses}."""
    ways = {", carried": True, ", not carried": False} if subject.carries else {"": False}
    weights = {"EMA": subject.state.ema, "raw": subject.state.params}
    found = {}
    for (way, carried), (name, params) in (
        (way, weight) for weight in weights.items() for way in ways.items()
    ):
        losses = subject.program(make_level_losses, carried=carried)
        parts = []
        for batch, indices in subject.batches:
            parts.append(hosts.to_host(losses(params, batch, indices, times)))
            bar.update()
        found[name + way] = np.concatenate(parts, axis=1)
    return found


def gradient_norms(subject: Subject, bar: tqdm) -> dict[str, np.ndarray]:
    """`module_norms` of the gradient of the training loss at the raw weights."""
    declared = subject.experiment.declared
    gradient, total = subject.program(make_gradient, declared=declared), None
    add = jax.jit(functools.partial(jax.tree.map, jnp.add))
    for batch, indices in subject.batches:
        part = gradient(subject.state.params, batch, indices)
        total = part if total is None else add(total, part)
        bar.update()
    count = len(subject.batches)
    return {module: norm / count for module, norm in module_norms(total, declared).items()}


def latent_statistics(subject: Subject, config) -> dict[str, dict[str, np.ndarray]]:
    """{whether carried: {'mean', ...: (T, blocks, samples)}} along the reverse process."""
    made = subject.experiment
    indices = np.arange(round_up(SAMPLES, subject.mesh), dtype=np.int32)
    labels = parse_labels("", subject.seed, len(indices), made.num_classes)
    source = build_source(config, made) if made.conditioning_frames else None
    condition = make_condition(made, source, indices, labels)
    watched = WatchedRIN(made, subject.state.ema, subject.mesh, indices, condition, subject.seed)
    measure = watched.over_passes(lambda *given: statistics(watched.look(*given).latents_after))
    runs = {"carried": {}, "not carried": {"carry_decay": 1.0}}
    return {name: measure(watched.trace(**changes)) for name, changes in runs.items()}


def diagnose(workdir: Path, options: flags.FlagValues, command: str) -> list[Path]:
    """Measures a run, and writes all; returns the paths.

    Raises:
      UserError: for data that cannot be read, or a run without a checkpoint.
    """
    config = read_workdir(workdir)
    if options.steps is not None:
        config.sampling.steps = options.steps
    if options.split is not None:
        config.data.split = options.split
    check_at_least("--num", options.num, 1)
    check_at_least("--batch_size", options.batch_size, 1)
    check_at_least("--steps", config.sampling.steps, 2)
    experiment, mesh = build(config), make_mesh(**config.mesh)
    source = build_source(config, experiment)
    state = restore_state(workdir, config, experiment, mesh, chosen_checkpoint(options))
    size = round_up(min(options.num, options.batch_size), mesh)
    stream = Stream(source, size, options.seed)
    batches = [
        (hosts.put(stream[i], mesh), np.arange(i * size, (i + 1) * size, dtype=np.int32))
        for i in range(-(-options.num // size))
    ]
    subject = Subject(experiment, state, mesh, batches, options.seed)
    times = (np.arange(LEVELS, dtype=np.float32) + np.float32(0.5)) / np.float32(LEVELS)
    with progress(len(batches) * (5 if subject.carries else 3), "batches") as bar:
        losses = level_losses(subject, times, bar)
        gradient = gradient_norms(subject, bar)
    parameters = module_norms(state.params, experiment.declared)
    gamma = np.asarray(noise_level(experiment.objective.schedule, jnp.asarray(times)).gamma)
    record = {
        "command": command,
        "step": int(state.step),
        "examples": subject.examples,
        "split": config.data.split,
        "t": times.tolist(),
        "gamma": gamma.tolist(),
        "loss": {
            name: {"mean": found.mean(axis=1).tolist(), "standard_error": _errors(found).tolist()}
            for name, found in losses.items()
        },
        "gradient_norm": {module: norm.tolist() for module, norm in gradient.items()},
        "parameter_norm": {module: norm.tolist() for module, norm in parameters.items()},
    }
    drawn = [draw_losses(subject, times, gamma, losses), draw_norms(subject, gradient, parameters)]
    if isinstance(experiment.denoiser, RIN):
        latents = latent_statistics(subject, config)
        record["latents"] = {
            way: {name: found.mean(axis=2).tolist() for name, found in each.items()}
            for way, each in latents.items()
        }
        drawn.append(draw_latents(latents))
    path = workdir / FILE
    write_json(path, record)
    pictures = [
        save_picture(
            workdir,
            Picture(each.file, "inside", each.title, each.caption, int(state.step), command),
            each.draw,
        )
        for each in drawn
    ]
    return [path, *pictures]


def _errors(found: np.ndarray) -> np.ndarray:
    """Standard errors over the last axis."""
    return found.std(axis=-1) / found.shape[-1] ** 0.5


def draw_losses(
    subject: Subject, times: np.ndarray, gamma: np.ndarray, losses: dict[str, np.ndarray]
) -> Drawn:
    """Loss over t, and what carrying changes in it."""
    objective = subject.experiment.objective
    panels = {f"loss ({objective.loss})": losses}
    marks = np.linspace(0, LEVELS - 1, 5).round().astype(int)
    levels = ", ".join(f"{gamma[i]:.3g} at {times[i]:.3g}" for i in marks)
    caption = (
        f"The training loss at {LEVELS} times t, mean and standard error over {subject.examples} "
        "examples with the same noise at all t, labels kept and without dropout; of the EMA and "
        f"the raw weights. gamma, the signal power, is {levels}."
    )
    if subject.carries:
        gain = {
            name: losses[f"{name}, carried"] - losses[f"{name}, not carried"]
            for name in ("EMA", "raw")
        }
        panels["carried - not carried"] = gain
        caption += (
            " Carried: the pass begins with the latents of a pass before it, as training with "
            "self-conditioning does. Below: what that changes, example by example; mean over t "
            f"of the EMA {gain['EMA'].mean():.2g}."
        )
    draw = functools.partial(
        inside.draw_curves,
        panels=panels,
        x=times,
        x_name="t, from image to noise",
        logarithmic=tuple(panels)[:1],
    )
    return Drawn("inside_loss.png", "Loss by noise level", caption, draw)


def draw_norms(
    subject: Subject, gradient: dict[str, np.ndarray], parameters: dict[str, np.ndarray]
) -> Drawn:
    """Gradient, parameters and their ratio by module."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {name: gradient[name] / parameters[name] for name in gradient}
    whole = np.sqrt(sum(np.square(norm).sum() for norm in gradient.values()))
    largest = max(gradient, key=lambda name: gradient[name].max())
    caption = (
        f"Euclidean norms of the gradient of the training loss, over {subject.examples} examples, "
        "of the raw weights, and of these; a dot for each layer. "
        f"The whole gradient has norm {whole:.3g}; the largest part is that of {largest}."
    )
    panels = {"gradient": gradient, "parameters": parameters, "gradient / parameters": ratio}
    draw = functools.partial(inside.draw_modules, panels=panels)
    return Drawn("inside_gradient.png", "Gradient by module", caption, draw)


def draw_latents(latents: dict[str, dict[str, np.ndarray]]) -> Drawn:
    """Statistics over the reverse steps, a colour for each block."""
    steps, blocks, samples = latents["carried"]["mean"].shape
    panels = {
        name: {
            f"block {block + 1}, {way}": each[name][:, block]
            for block in range(blocks)
            for way, each in latents.items()
        }
        for name in ("mean", "std", "norm", "max")
    }
    ends = "; ".join(f"{way} {each['norm'][-1, -1].mean():.3g}" for way, each in latents.items())
    caption = (
        "All numbers of all latents after each block, along the reverse process, carried as the "
        "run samples and (dashed) not: their mean, standard deviation, Euclidean norm and largest "
        f"absolute value. Mean and standard error over {samples} samples of the EMA. The norm "
        f"after the last block of the last step: {ends}."
    )
    draw = functools.partial(
        inside.draw_curves, panels=panels, x=np.arange(1, steps + 1), x_name=STEP
    )
    return Drawn("inside_latent_size.png", "How large the latents are", caption, draw)


def main(options: flags.FlagValues) -> None:
    """Measures as the flags say."""
    paths = diagnose(Path(options.workdir), options, cli.command())
    say("Written:", *map(str, paths))


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.", required=True)
    arguments.count("num", 512, "Examples to measure on.")
    flags.DEFINE_string("split", None, "Of the data, as held_out or test; the config's.")
    arguments.count("batch_size", 64, "Examples at a time; changes no loss.")
    arguments.count("steps", None, "Reverse steps, for the latents; the config's.")
    arguments.seed("seed", 0, "Decides which examples, their noise, and the samples.")
    define_checkpoint()
    cli.run(lambda: main(flags.FLAGS), __doc__)
