"""Trains a denoiser, from the newest checkpoint in --workdir if there is one.

    python -m launch.train --config=configs/rin/digits.py --workdir=runs/digits
    python -m launch.train --config=configs/rin/digits.py --config.train.steps=500 --workdir=runs/d
    python -m launch.train --config=configs/rin/digits.py --init_from=exports/d --workdir=runs/e

The same command continues a run that was stopped. Every field of a config can be set on the command
line; configs/base.py lists them. On several hosts give the same command on each, with --distributed
where the cluster tells of them, and a --workdir that all see.

--init_from starts from exported weights (launch.export): they are the parameters and their EMA, the
optimizer's moments are fresh, and the learning rate grows from 0 over up to 1,000 steps, whatever
the schedule does. With --init_step=N the data, the noise and the schedule go on as of step N.
"""

import contextlib
import functools
import shlex
from pathlib import Path

import jax
from absl import flags
from clu import parameter_overview
from ml_collections import ConfigDict

from diffusion_jax.compilation.chips import CHIPS
from diffusion_jax.console import say
from diffusion_jax.data.skipping import Skipping
from diffusion_jax.data.stream import Stream
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.experiment.eval_in_training import make_evaluator
from diffusion_jax.experiment.grid import make_grid_drawer
from diffusion_jax.experiment.latents import scaled_as_data
from diffusion_jax.experiment.start import Start, find_start, starting_params
from diffusion_jax.experiment.workdir import check_is_folder, code_version, open_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, check_batch, make_mesh
from diffusion_jax.reporting.metrics import MetricWriter, read_lines
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.locks import lock_folder
from diffusion_jax.training.checkpoints import Checkpoints, abstract_like
from diffusion_jax.training.loop import train
from diffusion_jax.training.optimizers import learning_rate
from diffusion_jax.training.preemption import listening
from diffusion_jax.training.speed import Speedometer, profiled
from diffusion_jax.training.state import TrainState
from launch.common import arguments, cli, distributed
from launch.describe import step_flops
from launch.posthoc_ema import make_storer
from launch.report import write_report


def run(
    config: ConfigDict,
    workdir: Path,
    mesh: Mesh | None = None,
    name: str = "",
    profile_steps: tuple[int, int] | None = None,
    command: str = "",
    init_from: Path | None = None,
    init_step: int = 0,
) -> bool:
    """Trains as `config`, of the file `name`, says, in `workdir`, on `mesh` or the config's.

    On SIGTERM or Ctrl-C it saves after the step and returns; at the end it writes the report, which
    hands on `command`, what was called. `profile_steps`, the first and the last counted from where
    it starts, are traced into `workdir`/profile. `init_from` and `init_step` are of `find_start`.

    Returns:
      Whether it has reached its last step.

    Raises:
      UserError: for what it cannot do, also if another process is training in `workdir`.
    """
    config = scaled_as_data(config)
    experiment = build(config)
    check_is_folder(workdir)
    with hosts.held_by_main(lock_folder(workdir)):
        return _run(
            config, experiment, workdir, mesh, name, profile_steps, command, init_from, init_step
        )


def _run(
    config: ConfigDict,
    experiment: Experiment,
    workdir: Path,
    mesh: Mesh | None,
    name: str,
    profile_steps: tuple[int, int] | None,
    command: str,
    init_from: Path | None,
    init_step: int,
) -> bool:
    """`run` in a directory that is locked."""
    start = find_start(workdir, config, init_from, init_step)
    if start:
        experiment = start.applied(experiment)
    mesh = mesh or make_mesh(**config.mesh)
    check_batch(config.train.batch_size, config.train.accumulate, mesh)
    source = build_source(config, experiment)
    callbacks = []
    if every := config.train.grid_every:
        draw_grid = make_grid_drawer(config, experiment, source, mesh, workdir / "grids")

        def draw_and_show(step: int, state: TrainState) -> None:
            writer.write_image(step, "grids", draw_grid(step, state))

        callbacks.append((every, draw_and_show))
    if every := config.train.eval_every:
        callbacks.append((every, make_evaluator(config, experiment, mesh, workdir)))
    if experiment.ema_powers:
        store = make_storer(workdir)
        callbacks.append((config.posthoc_ema.every, store))
    kind = jax.devices()[0].device_kind
    about = {"config": name, "command": command, "code": code_version()}
    about["devices"] = f"{mesh.size} x {kind}"
    open_workdir(workdir, config, source, about, start and start._asdict())

    total = config.train.steps
    keep, keep_every = config.train.keep_checkpoints, config.train.keep_every
    folder = Checkpoints(workdir / "checkpoints", keep, keep_every)
    with contextlib.closing(folder) as checkpoints:
        state = _initial_state(config, experiment, checkpoints, mesh, workdir, start)
        first = int(state.step)
        every = config.posthoc_ema.every
        if experiment.ema_powers and first and (first % every == 0 or first == total):
            store(first, state)  # which a run that was stopped there has not done
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(
            f"{count / 1e6:.2f}M parameters, {len(source):,} examples, "
            f"batch {config.train.batch_size} on {mesh.size} device(s), step {first} of {total}"
        )
        train_step = experiment.train_step(config, state, mesh)
        parts, owned = (1, (0,)) if jax.process_count() == 1 else hosts.parts_of(mesh)
        stream = Stream(
            source,
            config.train.batch_size,
            config.seed,
            flip=config.data.flip,
            parts=parts,
            owned=owned,
        )
        size = config.train.batch_size
        chip = CHIPS.get(kind)
        speed = Speedometer(size, step_flops(experiment, size), chip and chip.flops)
        if profile_steps:
            train_step = profiled(train_step, *profile_steps, workdir / "profile")
        writer = MetricWriter(workdir, resume_step=first)
        with contextlib.closing(writer), listening() as must_stop:
            state = train(
                state,
                train_step,
                stream,
                lambda batch: hosts.put_parts(batch, mesh),
                checkpoints,
                writer,
                speed,
                total_steps=total,
                log_every=config.train.log_every,
                checkpoint_every=config.train.checkpoint_every,
                learning_rate=learning_rate(experiment.optimizer, total),
                callbacks=callbacks,
                must_stop=must_stop,
            )
    if (stopped := int(state.step)) < total:
        say(f"Stopped by {must_stop} after step {stopped}, saved: the same command continues.")
        return False
    if hosts.is_main():
        skipped = source.skipped if isinstance(source, Skipping) else {}
        say(*_summary(workdir, total, len(skipped)))
        write_report(workdir)
    return True


def _initial_state(
    config: ConfigDict,
    experiment: Experiment,
    checkpoints: Checkpoints,
    mesh: Mesh,
    workdir: Path,
    start: Start | None,
) -> TrainState:
    """The newest checkpoint's state, or a new one, whose parameters it lists in parameters.txt."""

    def init():
        return experiment.init_state(config.seed, config.train.steps)

    shapes = jax.eval_shape(init)
    sharding = experiment.sharding(shapes, mesh)
    state = checkpoints.restore_newest(abstract_like(shapes, sharding))
    if state is not None:
        return state
    if start:
        params = starting_params(start, experiment, mesh)
        begin = functools.partial(experiment.state_of, total_steps=config.train.steps)
        state = jax.jit(begin, out_shardings=sharding)(params)
    else:
        state = jax.jit(init, out_shardings=sharding)()
    if hosts.is_main():
        table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        path = workdir / "parameters.txt"
        write_atomically(path, lambda partial: partial.write_text(table + "\n"))
    return state


def parse_profile_steps(parts: list[str]) -> tuple[int, int]:
    """(first, last) of --profile_steps.

    Raises:
      UserError: for anything but two numbers in order, from 1 on.
    """
    if not (
        len(parts) == 2 and all(p.isdigit() for p in parts) and 1 <= int(parts[0]) <= int(parts[1])
    ):
        raise UserError(f"--profile_steps is {','.join(parts)}: give FIRST,LAST, as 10,12")
    return int(parts[0]), int(parts[1])


def _summary(workdir: Path, total: int, skipped: int) -> list[str]:
    records = read_lines(workdir / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    loss = f", loss {losses[-1]:.4f}" if losses else ""
    bad = f"; {skipped} bad records were skipped" if skipped else ""
    return [
        f"Done: {total} steps{loss}{bad}. In {workdir}:",
        "  report.html     all of it on one page",
        "  checkpoints/    the state at the last steps, float32 parameters and their EMA",
        "  grids/          samples of the EMA",
        "  metrics.jsonl   loss, gradient norm, learning rate; tensorboard/ has them, and grids",
        "  speed.jsonl     seconds a step, images/s, TFLOP/s, share of the chip's peak (mfu)",
        "  config.json     what was run; parameters.txt, the size of every parameter",
        f"Sample:    python -m launch.sample --workdir={shlex.quote(str(workdir))} --num=64",
        "Continue:  the same command with a larger --config.train.steps",
    ]


if __name__ == "__main__":
    CONFIG = cli.define_config()
    WORKDIR = arguments.folder("workdir", None, "Run directory; made if it is not there.")
    flags.mark_flags_as_required(["config", "workdir"])
    INIT_FROM = arguments.folder("init_from", None, "Folder of launch.export to start from.")
    INIT_STEP = arguments.count("init_step", 0, "Step to start at, with --init_from.", at_least=0)
    distributed.define_flags()
    flags.adopt_module_key_flags(distributed)  # for --help

    PROFILE = flags.DEFINE_list("profile_steps", None, "FIRST,LAST to trace, from where it starts.")

    def main() -> None:
        distributed.initialize(flags.FLAGS)
        steps = None if PROFILE.value is None else parse_profile_steps(PROFILE.value)
        run(
            CONFIG.value,
            Path(WORKDIR.value),
            name=cli.config_name(),
            profile_steps=steps,
            command=cli.command(),
            init_from=Path(INIT_FROM.value) if INIT_FROM.value else None,
            init_step=INIT_STEP.value,
        )

    cli.run(main, __doc__)
