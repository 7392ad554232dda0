"""Scores a video run by FVD: its samples beside the videos that it was trained on.

    python -m launch.evaluate_videos --workdir=runs/kinetics600 --num=50000 --i3d=i3d.safetensors

Sample i continues the first frames of example i of the run's data; the frames given and those drawn
are scored as one video, beside that example's own frames. --i3d are the weights of the Kinetics-400
I3D (see diffusion_jax/evaluation/i3d_weights.py). Writes results.json beside the samples.
"""

from collections.abc import Callable, Iterator

import numpy as np
from absl import flags

from diffusion_jax.console import progress, say
from diffusion_jax.data.sources import Source
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import ArrayOnDisk
from diffusion_jax.evaluation.frechet import Moments, frechet_distance
from diffusion_jax.evaluation.fvd import WINDOW, make_video_extractor
from diffusion_jax.evaluation.i3d_weights import load_i3d
from diffusion_jax.evaluation.results import FILE, Result, write_result
from diffusion_jax.experiment.build import build, build_source
from diffusion_jax.experiment.scoring import sample_run
from diffusion_jax.experiment.workdir import code_version, read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import make_mesh
from diffusion_jax.storage.locks import lock_folder
from launch.common import arguments, cli, distributed
from launch.common.options import define_samples
from launch.tables import beside_published

BATCH = 64
FEATURES = 400


def distance(
    samples: ArrayOnDisk, source: Source, extract: Callable[[np.ndarray], np.ndarray]
) -> float:
    """FVD of samples (N, T - given, H, W, C), each after the frames given of its example."""
    real, fake = Moments(FEATURES), Moments(FEATURES)
    pairs = zip(_examples(source, len(samples)), samples.batches(BATCH), strict=True)
    with progress(len(samples), "videos") as bar:
        for videos, drawn in pairs:
            given = videos[:, : videos.shape[1] - drawn.shape[1]]
            real.update(extract(videos))
            fake.update(extract(np.concatenate([given, drawn], axis=1)))
            bar.update(len(drawn))
    return frechet_distance(real.gaussian(), fake.gaussian())


def _examples(source: Source, count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        yield np.stack([source.read(index % len(source))["images"] for index in indices])


def main(options: flags.FlagValues) -> None:
    """Samples and scores as the flags say."""
    distributed.initialize(options)
    folder = opened_folder(options)
    config = read_workdir(folder)
    experiment = build(config)
    shape = experiment.example_shape
    if len(shape) != 4 or shape[0] < WINDOW or shape[3] != 3:
        raise UserError(
            f"{folder} is of examples {shape}: FVD is of RGB videos of at least "
            f"{WINDOW} frames; score images by launch.evaluate"
        )
    pretrained = load_i3d(options.i3d)
    source = build_source(config, experiment)
    extract = make_video_extractor(pretrained, make_mesh())
    out, about = sample_run(options)
    about["weights"] = about.get("weights", {}) | {"i3d": pretrained.sha256}
    samples = ArrayOnDisk(out / "samples.npz", "arr_0")
    with hosts.held_by_main(lock_folder(out)):
        result = Result(
            metrics={"fvd": distance(samples, source, extract)},
            counts={"samples": len(samples), "reference": len(samples)},
            reference={"fingerprint": source.fingerprint()},
            command=cli.command(),
            code=code_version(),
            **about,
        )
        if hosts.is_main():
            write_result(out / FILE, result)
    say(*beside_published(result).splitlines(), f"Written: {out / FILE}")


if __name__ == "__main__":
    define_samples(50_000)
    flags.adopt_module_key_flags(distributed)  # for --help
    arguments.file("i3d", None, "Weights of I3D.", required=True)
    cli.run(lambda: main(flags.FLAGS), __doc__)
