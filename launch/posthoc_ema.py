"""Makes EMA weights of any width from one run that stored its averages.

    python -m launch.train --config=... --workdir=runs/x --config.posthoc_ema.sigma_rels=0.05,0.1
    python -m launch.posthoc_ema --workdir=runs/x --sigma_rel=0.03,0.05,0.1,0.2
    python -m launch.evaluate --init_from=runs/x/ema/step150000_sigma0.2 ...

A width sigma_rel is the standard deviation of the averaged steps in parts of the training until
then (arXiv 2312.02696, section 3). Every width is written as launch.export writes weights, to
WORKDIR/ema or --out. What the stored averages cannot make of its profile, in parts of that, is
printed; it grows towards 0 and towards widths that were not reached before the first was stored.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from diffusion_jax.console import progress, say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import build
from diffusion_jax.experiment.exports import is_export
from diffusion_jax.experiment.schema import SIGMA_REL
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.fields import Each
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_path
from diffusion_jax.training.checkpoints import abstract_like, restore_newest, save_once
from diffusion_jax.training.power_ema import Profile, gamma_of, weights
from diffusion_jax.training.state import TrackedState
from launch.common import arguments, cli
from launch.export import Found, about_run, export

FOLDER = "posthoc_ema"  # of a run directory: the stored averages, a folder for each step


def make_storer(workdir: Path) -> Callable[[int, TrackedState], None]:
    """(step, state) -> stores the averages of the state."""

    def store(step: int, state: TrackedState) -> None:
        save_once(workdir / FOLDER, step, {"power_emas": state.power_emas}, keep_every=1)

    return store


def stored_steps(workdir: Path) -> list[int]:
    """Those whose averages a run has stored, in order.

    Raises:
      UserError: if there are none.
    """
    names = (path.name for path in (workdir / FOLDER).glob("*"))
    if steps := sorted(int(name) for name in names if name.isdigit()):
        return steps
    raise UserError(
        f"--workdir {workdir} has stored no averages: train with "
        "--config.posthoc_ema.sigma_rels=0.05,0.1 (from the start: the weights of a run that has "
        "none are gone)"
    )


def write(
    workdir: Path,
    sigma_rels: Sequence[float],
    command: str,
    step: int | None = None,
    out: Path | None = None,
) -> dict[float, Path]:
    """Writes the EMAs of these widths at a step, the last by default; those that are there stay.

    Args:
      command: what was called.

    Returns:
      {width: its folder, in `out` or WORKDIR/ema}.

    Raises:
      UserError: for a run that stored none, a step that it did not store, or what is no width.
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
            parts = zip(steps, factors.reshape(len(steps), -1), strict=True)
            params = _summed(workdir / FOLDER, list(parts), template)
            about = about_run(workdir, config, step, f"EMA of sigma_rel {width:g}")
            about |= {"sigma_rel": width, "missed": missed}
            if hosts.is_main():
                export(Found(params, config, about), folder, command=command)
            hosts.wait_for_all("exported")
    return folders


def _summed(folder: Path, parts: list[tuple[int, np.ndarray]], template: Any) -> Any:
    """The weighted sum of stored averages, in float64 and then float32.

    Args:
      parts: (step, a factor for each of its averages).
    """
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), template["power_emas"][0])
    with progress(len(parts), "steps") as bar:
        for step, factors in parts:
            stored = restore_newest(folder, template, step)["power_emas"]
            for factor, average in zip(factors, hosts.to_host(stored), strict=True):
                total = jax.tree.map(lambda sum, leaf, f=factor: sum + f * leaf, total, average)
            bar.update()
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), total)


def _few(steps: list[int]) -> str:
    """'500, 1000, ..., 4000'."""
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) < 8 else [*shown[:3], "...", shown[-1]])


def main(options: flags.FlagValues) -> None:
    """Writes as the flags say."""
    out = Path(options.out) if options.out else None
    folders = write(Path(options.workdir), options.sigma_rel, cli.command(), options.step, out)
    say("Written:", *map(str, folders.values()))


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.define(
        "sigma_rel",
        None,
        "Widths, as 0.03,0.1: above 0, at most 0.2886.",
        Each(SIGMA_REL, fewest=1),
    )
    arguments.count("step", None, "At which averages are stored; the last.", at_least=0)
    arguments.folder("out", None, "Folder for the folders; WORKDIR/ema.")
    flags.mark_flags_as_required(["workdir", "sigma_rel"])
    cli.run(lambda: main(flags.FLAGS), __doc__)
