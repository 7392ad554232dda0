"""Score a video run by FVD: its samples against the videos that it was trained on.

    python -m launch.evaluate_videos --workdir=runs/kinetics600 --num=50000 --i3d=i3d.safetensors

Sample i continues the first frames of example i of the run's data; the frames given and those drawn
are scored as one video, against that example's own frames. --i3d are the weights of the
Kinetics-400 I3D (see diffusion_jax/evaluation/i3d_weights.py). Takes the flags of launch.sample,
and writes results.json beside the samples.
"""

from launch.common import arguments, cli, distributed
from launch.common.options import define_samples, sampling_job

from absl import flags

from configs.published import RESULTS
from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.fvd import WINDOW, make_video_extractor
from diffusion_jax.evaluation.i3d_weights import load_i3d
from diffusion_jax.evaluation.results import FILE
from diffusion_jax.experiment.build import build, build_source
from diffusion_jax.experiment.scoring import draw, score_videos
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.reporting.published import beside_published


def main(options: flags.FlagValues) -> None:
    """Sample, score and print."""
    distributed.initialize(options)
    job = sampling_job(options)
    experiment = build(job.config)
    shape = experiment.example_shape
    if len(shape) != 4 or shape[0] < WINDOW or shape[3] != 3:
        raise UserError(
            f"{job.folder} is of examples {shape}: FVD is of RGB videos of at least "
            f"{WINDOW} frames; score images by launch.evaluate"
        )
    pretrained = load_i3d(options.i3d)
    source = build_source(job.config, experiment)
    extract = make_video_extractor(pretrained, make_mesh())
    out, about = draw(job, cli.command())
    result = score_videos(out, source, extract, pretrained.sha256, about)
    say(*beside_published(result, RESULTS).splitlines(), f"Written: {out / FILE}")


if __name__ == "__main__":
    define_samples(num=50_000)
    arguments.file("i3d", None, "Weights of I3D.", required=True)
    cli.run(lambda: main(flags.FLAGS), __doc__)
