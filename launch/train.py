"""Trains a denoiser, from the newest checkpoint in --workdir if there is one.

    python -m launch.train --config=configs/rin/digits.py --workdir=runs/digits
    python -m launch.train --config=configs/rin/digits.py --config.train.steps=500 --workdir=runs/d

The same command continues a run that was stopped. Every field of a config can be set on the command
line; configs/base.py lists them.
"""

import contextlib
from pathlib import Path

import jax
from absl import flags
from clu import parameter_overview
from ml_collections import ConfigDict

from diffusion_jax.checkpoints import Checkpoints, abstract_like
from diffusion_jax.data.stream import Stream
from diffusion_jax.reporting.metrics import MetricWriter, read_lines
from diffusion_jax.sharding import Mesh, by_example, check_batch, make_mesh, of_state
from diffusion_jax.training.loop import train
from diffusion_jax.training.optimizers import learning_rate, make_optimizer
from diffusion_jax.training.state import TrainState
from diffusion_jax.training.step import make_train_step
from launch import cli
from launch.build import Experiment, build, build_source
from launch.eval_in_training import make_evaluator
from launch.grid import make_grid_drawer
from launch.workdir import open_workdir


def run(config: ConfigDict, workdir: Path, mesh: Mesh | None = None, name: str = "") -> None:
    """Trains as `config`, of the file `name`, says, in `workdir`, on `mesh` or the config's."""
    experiment = build(config)
    mesh = mesh or make_mesh(**config.mesh)
    check_batch(config.train.batch_size, config.train.accumulate, mesh)
    source = build_source(config, experiment)
    callbacks = []
    if every := config.train.grid_every:
        draw_grid = make_grid_drawer(config, experiment, source, mesh, workdir / "grids")
        callbacks.append((every, draw_grid))
    if every := config.train.eval_every:
        callbacks.append((every, make_evaluator(config, experiment, mesh, workdir)))
    open_workdir(workdir, config, source, name)

    total = config.train.steps
    optimizer = make_optimizer(experiment.optimizer, total)
    folder = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
    with contextlib.closing(folder) as checkpoints:
        state = _initial_state(config, experiment, checkpoints, mesh, workdir)
        start = int(state.step)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        print(
            f"{count / 1e6:.2f}M parameters, {len(source):,} examples, "
            f"batch {config.train.batch_size} on {mesh.size} device(s), step {start} of {total}"
        )
        train_step = make_train_step(
            experiment.denoiser,
            experiment.objective,
            optimizer,
            state,
            mesh,
            seed=config.seed,
            ema_decay=config.ema_decay,
            accumulate=config.train.accumulate,
            conditioning_frames=experiment.conditioning_frames,
        )
        stream = Stream(
            source,
            config.train.batch_size,
            config.seed,
            flip=config.data.flip,
            on_bad_record=config.data.on_bad_record,
        )
        with contextlib.closing(MetricWriter(workdir, resume_step=start)) as writer:
            train(
                state,
                train_step,
                stream,
                lambda batch: jax.device_put(batch, by_example(mesh)),
                checkpoints,
                writer,
                total_steps=total,
                log_every=config.train.log_every,
                checkpoint_every=config.train.checkpoint_every,
                learning_rate=learning_rate(experiment.optimizer, total),
                callbacks=callbacks,
            )
    print(_summary(workdir, total, len(stream.skipped)))


def _initial_state(
    config: ConfigDict, experiment: Experiment, checkpoints: Checkpoints, mesh: Mesh, workdir: Path
) -> TrainState:
    """The newest checkpoint's state, or a new one, whose parameters it lists in parameters.txt."""

    def init():
        return experiment.init_state(config.seed, config.train.steps)

    shapes = jax.eval_shape(init)
    sharding = of_state(shapes, mesh)
    step = checkpoints.latest()
    if step is not None:
        return checkpoints.restore(step, abstract_like(shapes, sharding))
    state = jax.jit(init, out_shardings=sharding)()
    table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    (workdir / "parameters.txt").write_text(table + "\n")
    return state


def _summary(workdir: Path, total: int, skipped: int) -> str:
    records = read_lines(workdir / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    loss = f", loss {losses[-1]:.4f}" if losses else ""
    bad = f"; {skipped} bad records were skipped" if skipped else ""
    return f"""Done: {total} steps{loss}{bad}. In {workdir}:
  checkpoints/    the state at the last steps, float32 parameters and their EMA
  grids/          samples of the EMA
  metrics.jsonl   loss, gradient norm, learning rate; the same in tensorboard/
  config.json     what was run; parameters.txt, the size of every parameter
Sample:    python -m launch.sample --workdir={workdir} --num=64
Continue:  the same command with a larger --config.train.steps"""


if __name__ == "__main__":
    CONFIG = cli.define_config()
    WORKDIR = flags.DEFINE_string("workdir", None, "Run directory; made if it is not there.")
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(lambda: run(CONFIG.value, Path(WORKDIR.value), name=cli.config_name()), __doc__)
