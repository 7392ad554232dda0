"""Scores a run, or images made elsewhere: FID, sFID, Inception Score, precision, recall and KID.

    python -m launch.evaluate --workdir=runs/cifar10 --num=50000 \\
      --reference=data/references/cifar10.npz --inception=inception.npz
    python -m launch.evaluate --init_from=exports/cifar10 ...             # weights of launch.export
    python -m launch.evaluate --images=samples.npz --out=scores ...        # or a folder of images

A run is sampled from the EMA weights first (see launch.sample, whose flags it takes), an export
from what it holds. Prints the paper's row beside ours and writes results.json beside the samples,
or to --out. --reference is a file of launch.reference. A stopped command continues.
"""

from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.accumulator import KEEP_SAMPLES
from diffusion_jax.evaluation.results import FILE, Result, write_result
from diffusion_jax.experiment.judge import Judge, load_judge
from diffusion_jax.experiment.scoring import accumulate, open_images, sample_run
from diffusion_jax.experiment.workdir import code_version
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_folder
from launch.common import arguments, cli, distributed
from launch.common.options import define_samples
from launch.common.options import define_judge
from launch.tables import beside_published


def score(images: Path, out: Path, judge: Judge, about: dict) -> Result:
    """Scores the images at a path and writes the result to a folder.

    Args:
      about: further fields of `Result`.

    Raises:
      UserError: for images that cannot be read, or do not belong to the reference.
    """
    opened, fingerprint = open_images(images)
    extraction = judge.extraction(opened.shape[1:3])  # before hours of work
    about["weights"] = about.get("weights", {}) | {"inception": judge.inception}
    about["code"] = code_version()
    with hosts.held_by_main(lock_folder(out)):
        accumulator = accumulate(opened, fingerprint, judge.extract, extraction, KEEP_SAMPLES, out)
        metrics, counts = accumulator.result(judge.reference)
        result = Result(metrics=metrics, counts=counts, reference=judge.reference.about(), **about)
        if hosts.is_main():
            write_result(out / FILE, result)
    return result


def main(options: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    command = cli.command()
    distributed.initialize(options)
    if options.images:
        if options.workdir or options.init_from:
            raise UserError("--images were made elsewhere: leave out --workdir and --init_from")
        if not options.out:
            raise UserError("--images wants --out, the folder that results.json is written to")
    judge = load_judge(Path(options.reference), Path(options.inception), make_mesh())
    if options.images:
        images, out, about = Path(options.images), Path(options.out), {"config": ""}
    else:
        out, about = sample_run(options)
        images = out / "samples.npz"
    result = score(images, out, judge, about | {"command": command})
    say(*beside_published(result).splitlines(), f"Written: {out / FILE}")


if __name__ == "__main__":
    define_samples(50_000)
    define_judge()
    flags.adopt_module_key_flags(distributed)  # for --help
    arguments.path("images", None, "Images made elsewhere: .npz with arr_0, or a folder.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
