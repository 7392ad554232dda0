"""Score the samples of a run on the digits: does a classifier see the digit that was asked for?

    python -m launch.quickstart --workdir=runs/digits

The classifier is a support vector machine trained on the real digits that the run was trained on.
The Frechet distance compares the pixels of the samples with theirs: lower is better. The last
figure is the distance to the nearest of them: were it much smaller than that of held-out digits,
the network would be memorising. The table is kept in digit_scores.json, and shown in report.html.
"""

from launch.common import arguments, cli
from launch.common.report import write_report

from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.console import say
from diffusion_jax.data.arrays import digits
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.digit_scores import DigitTable
from diffusion_jax.evaluation.digits import score_digits
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.workdir import read_workdir

COUNT = 500
GUIDANCE = 1.0


def variants(config: ConfigDict) -> dict[str, dict[str, float]]:
    """Return how to sample: as the config says, and ways to compare that network with itself."""
    made = {"samples": {}}
    if config.model.name == "rin":
        made["samples, latents not carried"] = {"carry_decay": 1.0}
    if config.objective.label_dropout:
        made[f"samples, guidance {GUIDANCE:g}"] = {"guidance": GUIDANCE}
    return made


def main(workdir: Path) -> None:
    """Sample in every variant, and print the scores beside those of real digits."""
    config = read_workdir(workdir)
    if config.data.name != "digits":
        raise UserError(f"--workdir {workdir} was trained on {config.data.name}, not on digits")
    train, held_out = digits("train"), digits("held_out")
    assert held_out.labels is not None
    scores = {"real digits, held out": score_digits(held_out.images, held_out.labels, train)}
    request = dict(num=COUNT, labels="0,1,2,3,4,5,6,7,8,9", seed=0, batch_size=COUNT)
    grids = []
    for name, changes in variants(config).items():
        changed = config.copy_and_resolve_references()
        changed.sampling.update(changes)
        out = sample(changed, workdir, None, request)
        with np.load(out / "samples.npz") as archive:
            scores[name] = score_digits(archive["arr_0"], archive["labels"], train)
        grids.append(out / "grid.png")
    table = DigitTable(read_request(out)["step"], COUNT, scores)
    table.write(workdir)
    for name, agreement, frechet, nearest in table.cells():
        say(f"{name:30}{agreement:>19}{frechet:>18}{nearest:>14}")
    write_report(workdir)
    say(f"Look at {grids[0]}: a column for each digit.")


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.", required=True)
    cli.run(lambda: main(Path(flags.FLAGS.workdir)), __doc__)
