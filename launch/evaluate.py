"""Score a run, or images made elsewhere: FID, sFID, Inception Score, precision, recall and KID.

    python -m launch.evaluate --workdir=runs/cifar10 --num=50000 \\
      --reference=data/references/cifar10.npz --inception=inception.npz
    python -m launch.evaluate --init_from=exports/cifar10 ...             # weights of launch.export
    python -m launch.evaluate --images=samples.npz --out=scores ...        # or a folder of images

A run is first sampled from its EMA weights, an export from what it holds; see launch.sample, whose
flags this takes. Prints the paper's row beside ours and writes results.json beside the samples, or
to --out. --reference is a file of launch.reference. A stopped command continues.
"""

from launch.common import arguments, cli, distributed
from launch.common.options import define_judge, define_samples, sampling_job

from pathlib import Path

from absl import flags

from configs.published import RESULTS
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.judge import load_judge
from diffusion_jax.evaluation.results import FILE, Result
from diffusion_jax.experiment.scoring import draw, score
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.published import beside_published


def main(options: flags.FlagValues) -> None:
    """Sample, score and print."""
    command = cli.command()
    distributed.initialize(options)
    if options.images:
        if options.workdir or options.init_from:
            raise UserError("--images were made elsewhere: leave out --workdir and --init_from")
        if not options.out:
            raise UserError("--images wants --out, the folder that results.json is written to")
    judge = load_judge(Path(options.reference), Path(options.inception), make_mesh())
    if options.images:
        images, out = Path(options.images), Path(options.out)
        about = Result(config="", command=command)
    else:
        out, about = draw(sampling_job(options), command)
        images = out / "samples.npz"
    result = score(images, out, judge, about)
    say(*beside_published(result, RESULTS).splitlines(), f"Written: {out / FILE}")


if __name__ == "__main__":
    define_samples(num=50_000)
    define_judge()
    arguments.path("images", None, "Images made elsewhere: .npz with arr_0, or a folder.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
