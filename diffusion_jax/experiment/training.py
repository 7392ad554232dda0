"""The training path on one page; read it from top to bottom.

    config -> objects -> stream of batches -> [carry pass] -> loss -> gradient
           -> optimizer update -> moving averages -> metrics -> checkpoint

`train` makes the objects and hands them to the loop. `diffusion_jax.training.step` has what happens
within a step, `diffusion_jax.training.loop` what happens between steps. Everything that is not
training (sample grids, scores, stored averages) is a callback of the loop.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from diffusion_jax.compilation.chips import CHIPS
from diffusion_jax.compilation.costs import step_flops
from diffusion_jax.console import say
from diffusion_jax.data.sources import FittedSource
from diffusion_jax.data.stream import Stream
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.experiment.eval_in_training import score_samples
from diffusion_jax.experiment.grid import draw_grids
from diffusion_jax.experiment.held_out import measure_held_out
from diffusion_jax.experiment.latents import scaled_as_data
from diffusion_jax.experiment.posthoc_ema import store_averages
from diffusion_jax.experiment.schema import flat_config
from diffusion_jax.experiment.start import Start, find_start, starting_params
from diffusion_jax.experiment.workdir import check_is_folder, code_version, open_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, check_batch, make_mesh
from diffusion_jax.reporting.metrics import MetricWriter
from diffusion_jax.reporting.trackers import open_tracker
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.locks import lock_folder
from diffusion_jax.training import loop
from diffusion_jax.training.batches import Batch
from diffusion_jax.training.checkpoints import Checkpoints, abstract_like
from diffusion_jax.training.optimizers import learning_rate
from diffusion_jax.training.preemption import StopRequest, listening
from diffusion_jax.training.speed import Speedometer, profiled
from diffusion_jax.training.state import TrainState


class Outcome(NamedTuple):
    """How far a run has come.

    Attributes:
      step: number of updates made.
      stopped_by: 'SIGTERM' or 'Ctrl-C' if that stopped it before it was done, else ''.
      skipped: number of bad records in the data that were skipped.
    """

    step: int
    stopped_by: str
    skipped: int

    @property
    def finished(self) -> bool:
        """Whether the run has made its last update, and drawn and scored all that it should."""
        return not self.stopped_by


def train(
    config: ConfigDict,
    workdir: Path,
    mesh: Mesh | None = None,
    *,
    name: str = "",
    command: str = "",
    profile_steps: tuple[int, int] | None = None,
    init_from: Path | None = None,
    init_step: int = 0,
) -> Outcome:
    """Train `config` in `workdir`, from the newest checkpoint there if there is one.

    On SIGTERM or Ctrl-C it saves after the step that is running, or the batch of samples that is
    being drawn, and returns.

    Args:
      mesh: devices to train on; by default those that the config asks for.
      name: name of the config, for the run's records.
      command: command line, for the run's records and its report.
      profile_steps: first and last step to trace into `workdir`/profile, counted from 1 where this
        call starts.
      init_from, init_step: exported weights to start from, and at which step; see `find_start`.

    Raises:
      UserError: for whatever is wrong with the config, the data or the run directory, if another
        process trains in it, or if training diverges.
    """
    # Config -> objects. Mistakes are found here, before anything is read or compiled.
    config = scaled_as_data(config)
    experiment = build(config)  # network, objective, sampler, optimizer
    check_is_folder(workdir)
    with ExitStack() as held:
        held.enter_context(hosts.held_by_main(lock_folder(workdir)))
        start = find_start(workdir, config, init_from, init_step)
        if start:
            experiment = start.applied(experiment)
        mesh = mesh or make_mesh(**config.mesh)
        check_batch(config.train.batch_size, config.train.accumulate, mesh)
        source = build_source(config, experiment)
        stop = StopRequest()
        callbacks = _callbacks(config, experiment, source, mesh, workdir, stop)
        chip = jax.devices()[0].device_kind
        about = {"config": name, "command": command, "code": code_version()}
        about["devices"] = f"{mesh.size} x {chip}"
        open_workdir(workdir, config, source, about, start and start._asdict())
        tracker = open_tracker(config.train.tracker, workdir, flat_config(config))

        # The state: parameters, their averages and the optimizer's moments, from the newest
        # checkpoint that is whole, or new ones.
        keep = config.train.keep_checkpoints, config.train.keep_every
        checkpoints = held.enter_context(closing(Checkpoints(workdir / "checkpoints", *keep)))
        state = _initial_state(config, experiment, checkpoints, mesh, workdir, start)
        first, total, size = int(state.step), config.train.steps, config.train.batch_size
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(
            f"{count / 1e6:.2f}M parameters, {len(source):,} examples, "
            f"batch {size} on {mesh.size} device(s), step {first} of {total}"
        )

        # The stream of batches, whose order is a pure function of (seed, step).
        batches = _batches(config, source, mesh, first)

        # The step: [carry pass] -> loss -> gradient -> optimizer update -> moving averages.
        train_step = experiment.train_step(config, state, mesh)
        if profile_steps:
            train_step = profiled(train_step, *profile_steps, workdir / "profile")

        # The loop: steps, metrics, callbacks, checkpoints.
        peak = CHIPS[chip].flops if chip in CHIPS else None
        speed = Speedometer(size, step_flops(experiment, size), peak)
        writer = held.enter_context(closing(MetricWriter(workdir, first, tracker)))
        rate, log_every = learning_rate(experiment.optimizer, total), config.train.log_every
        log = loop.Log(writer, speed, checkpoints, log_every, total, rate)
        held.enter_context(listening(stop))  # to SIGTERM and Ctrl-C
        plan = loop.Plan(total, config.train.checkpoint_every, callbacks, stop.check)
        state, finished = loop.train(state, train_step, batches, log, plan)
    return Outcome(int(state.step), "" if finished else str(stop), len(source.skipped))


def _callbacks(
    config: ConfigDict,
    experiment: Experiment,
    source: FittedSource,
    mesh: Mesh,
    workdir: Path,
    stop: StopRequest,
) -> list[loop.Callback]:
    """Return what the config asks for beside training."""
    callbacks = []
    if config.train.grid_every:
        callbacks.append(draw_grids(config, experiment, source, mesh, workdir / "grids", stop))
    if config.train.eval_every:
        callbacks.append(score_samples(config, experiment, mesh, workdir, stop))
    callbacks += measure_held_out(config, experiment, mesh, workdir)
    if experiment.ema_powers:
        callbacks.append(store_averages(workdir, config.posthoc_ema.every))
    return callbacks


def _initial_state(
    config: ConfigDict,
    experiment: Experiment,
    checkpoints: Checkpoints,
    mesh: Mesh,
    workdir: Path,
    start: Start | None,
) -> TrainState:
    """Return the state of the newest checkpoint, or a new one, listed in parameters.txt.

    A new state is made where it belongs, each device computing its own part.
    """
    init = functools.partial(experiment.init_state, config.seed, config.train.steps)
    shapes = jax.eval_shape(init)
    sharding = experiment.sharding(shapes, mesh)
    state = checkpoints.restore_newest(abstract_like(shapes, sharding))
    if state is not None:
        return state
    if start:
        begin = functools.partial(experiment.state_of, total_steps=config.train.steps)
        params = starting_params(start, experiment, mesh)
        state = jax.jit(begin, out_shardings=sharding)(params)
    else:
        state = jax.jit(init, out_shardings=sharding)()
    if hosts.is_main():
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        path = workdir / "parameters.txt"
        write_atomically(path, lambda partial: partial.write_text(table + "\n"))
    return state


def _batches(config: ConfigDict, source: FittedSource, mesh: Mesh, first: int) -> Iterator[Batch]:
    """Yield the batches from step `first` on, on the devices; nothing is read before it must be.

    Every process reads the parts of a batch that its own devices hold.
    """
    parts, owned = (1, (0,)) if jax.process_count() == 1 else hosts.parts_of(mesh)
    size, flip = config.train.batch_size, config.data.flip
    stream = Stream(source, size, config.seed, flip=flip, parts=parts, owned=owned)
    for batch in stream.batches(first):
        yield hosts.put_parts(batch, mesh)
