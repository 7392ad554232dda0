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

from diffusion_jax import hosts
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.accumulator import KEEP_SAMPLES
from diffusion_jax.evaluation.extractor import make_extractor
from diffusion_jax.evaluation.inception_weights import load_inception
from diffusion_jax.evaluation.references import Extraction, check_comparable, load_reference
from diffusion_jax.evaluation.results import FILE, Result, write_result
from diffusion_jax.sharding import make_mesh
from launch import cli, distributed, sample
from launch.scoring import accumulate, open_images, sample_run
from launch.tables import beside_published
from launch.workdir import code_version


def score(images: Path, out: Path, reference: Path, weights: Path, about: dict) -> Result:
    """Scores the images at a path and writes the result to a folder.

    Args:
      about: further fields of `Result`.

    Raises:
      UserError: for images, weights or a reference that cannot be read, or do not belong together.
    """
    compared = load_reference(reference)
    opened, fingerprint = open_images(images)
    pretrained = load_inception(weights)
    resize = compared.extraction.resize
    extraction = Extraction(opened.shape[1:3], resize, pretrained.sha256)
    check_comparable(extraction, compared.extraction)  # before hours of work
    extract = make_extractor(pretrained, make_mesh(), resize)
    out.mkdir(parents=True, exist_ok=True)
    accumulator = accumulate(opened, fingerprint, extract, extraction, KEEP_SAMPLES, out)
    metrics, counts = accumulator.result(compared)
    about["weights"] = about.get("weights", {}) | {"inception": pretrained.sha256}
    about["code"] = code_version()
    result = Result(metrics=metrics, counts=counts, reference=compared.about(), **about)
    if hosts.is_main():
        write_result(out / FILE, result)
    return result


def main(options: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    command = cli.command()
    distributed.initialize(options)
    files = (Path(options.reference), Path(options.inception))
    if options.images:
        if options.workdir or options.init_from:
            raise UserError("--images were made elsewhere: leave out --workdir and --init_from")
        if not options.out:
            raise UserError("--images wants --out, the folder that results.json is written to")
        out = Path(options.out)
        result = score(Path(options.images), out, *files, {"config": "", "command": command})
    else:
        load_reference(files[0])  # before hours of sampling
        out, about = sample_run(options)
        result = score(out / "samples.npz", out, *files, about | {"command": command})
    cli.say(f"{beside_published(result)}\nWritten: {out / FILE}")


if __name__ == "__main__":
    sample.define_flags(num=50_000)
    for module in (sample, distributed):
        flags.adopt_module_key_flags(module)  # for --help
    flags.DEFINE_string("images", None, "Images made elsewhere: .npz with arr_0, or a folder.")
    flags.DEFINE_string("reference", None, "File of launch.reference.", required=True)
    flags.DEFINE_string("inception", None, "Weights of FID's Inception.", required=True)
    cli.run(lambda: main(flags.FLAGS), __doc__)
