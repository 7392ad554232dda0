"""EMA weights of any width, made after training (arXiv 2312.02696, section 3).

A run with `posthoc_ema.sigma_rels` stores its averages now and then, in WORKDIR/posthoc_ema with a
folder for each step; `reconstruct` combines them into averages of other widths.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.console import progress, say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exporting import Found, about_run, export
from diffusion_jax.experiment.exports import is_export
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_path
from diffusion_jax.training.checkpoints import abstract_like, kept_steps, restore_newest, save_once
from diffusion_jax.training.loop import Callback
from diffusion_jax.training.power_ema import Profile, gamma_of, weights
from diffusion_jax.training.state import TrackedState, TrainState

FOLDER = "posthoc_ema"


def store_averages(workdir: Path, every: int) -> Callback:
    """Return a callback that stores the averages of a `TrackedState`."""

    def store(step: int, state: TrainState) -> None:
        assert isinstance(state, TrackedState)
        save_once(workdir / FOLDER, step, {"power_emas": state.power_emas}, keep_every=1)

    return Callback(every, store, lambda step: step in kept_steps(workdir / FOLDER))


def stored_steps(workdir: Path) -> list[int]:
    """Return the steps at which a run has stored its averages, in order.

    Raises:
      UserError: if there are none.
    """
    if steps := kept_steps(workdir / FOLDER):
        return steps
    raise UserError(
        f"--workdir {workdir} has stored no averages: train with "
        "--config.posthoc_ema.sigma_rels=0.05,0.1 (from the start: the weights of a run that has "
        "none are gone)"
    )


def reconstruct(
    workdir: Path,
    sigma_rels: Sequence[float],
    command: str,
    step: int | None = None,
    out: Path | None = None,
) -> dict[float, Path]:
    """Write the EMAs of these widths as exports, unless they exist.

    Args:
      command: the command line, for provenance.json.
      step: the step at which they are wanted; by default the last at which averages are stored.
      out: folder of the exports; by default WORKDIR/ema.

    Returns:
      {width: its folder}.

    Raises:
      UserError: for a run without averages, a step at which it stored none, or an invalid width.
    """
    config, steps = read_workdir(workdir), stored_steps(workdir)
    step = step or steps[-1]
    if step not in steps:
        raise UserError(f"--step is {step}: averages are stored of {_few(steps)}")
    experiment, mesh = build(config), make_mesh(**config.mesh)
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    one = abstract_like(shapes, experiment.sharding(shapes, mesh))
    template = {"power_emas": tuple(one for _ in experiment.ema_powers)}
    steps = [each for each in steps if each <= step]
    stored = [Profile(gamma, each) for each in steps for gamma in experiment.ema_powers]
    wanted = {width: weights(stored, Profile(gamma_of(width), step)) for width in sigma_rels}
    folders = {
        width: (out or workdir / "ema") / f"step{step}_sigma{width:g}" for width in sigma_rels
    }

    for width, folder in folders.items():
        factors, missed = wanted[width]
        say(f"sigma_rel {width:g}: {missed:.1%} of its profile missed, {folder}")
        with hosts.held_by_main(lock_path(folder)):
            is_done = is_export(folder)
            hosts.wait_for_all("looked")
            if is_done:
                continue
            by_step = dict(zip(steps, factors.reshape(len(steps), -1), strict=True))
            params = _weighted_sum(workdir / FOLDER, by_step, template)
            about = about_run(workdir, config, step, f"EMA of sigma_rel {width:g}")
            about |= {"sigma_rel": width, "missed": missed}
            if hosts.is_main():
                export(Found(params, config, about), folder, command=command)
            hosts.wait_for_all("exported")
    return folders


def _weighted_sum(folder: Path, factors: dict[int, np.ndarray], template: Any) -> Any:
    """Return the weighted sum of stored averages: taken in float64, and then rounded to float32.

    Args:
      factors: step -> a factor for each of its averages.
    """
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), template["power_emas"][0])
    with progress(len(factors), "steps") as bar:
        for step, of_step in factors.items():
            stored: Any = restore_newest(folder, template, step)
            averages = hosts.to_host(stored["power_emas"])
            for factor, average in zip(of_step, averages, strict=True):
                total = jax.tree.map(lambda sum, leaf, f=factor: sum + f * leaf, total, average)
            bar.update()
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), total)


def _few(steps: list[int]) -> str:
    """Return '500, 1000, 1500, ..., 4000'."""
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) < 8 else [*shown[:3], "...", shown[-1]])
