"""Draw the samples that a request asks for into a folder; a stopped command continues."""

import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress
from diffusion_jax.data.arrays import Arrays
from diffusion_jax.diffusion import process
from diffusion_jax.errors import check_at_least
from diffusion_jax.experiment import sample_files
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.given import Edit
from diffusion_jax.experiment.grid import grid_columns, make_condition
from diffusion_jax.experiment.weights import NEWEST, Checkpoint
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.sampling.editing import NOTHING
from diffusion_jax.storage.locks import lock_folder


def sample(
    config: ConfigDict,
    workdir: Path,
    out: Path | None,
    request: dict,
    mesh: Mesh | None = None,
    checkpoint: Checkpoint = NEWEST,
    edit: Edit | None = None,
    frames: Arrays | None = None,
    windows: int = 1,
) -> Path:
    """Draws what `request` asks for; returns the folder of samples.npz and grid.png.

    Args:
      config: of the run, with the sampling section to use.
      workdir: the run directory, or the folder of an export.
      out: folder to write to, None for one in `workdir` named after the request.
      request: num, labels, seed, batch_size.
      mesh: to sample on, None for the config's.
      checkpoint: of a run, to sample.
      edit: images to draw anew, None for new ones.
      frames: what videos continue, None for the run's data; sample i has example i mod N.
      windows: to draw of each video, one continuing the other.
    """
    num, seed = request["num"], request["seed"]
    check_at_least("--num", num, 1)
    run = open_run(config, workdir, seed, request["batch_size"], mesh, checkpoint, frames)
    experiment, everyone = run.experiment, np.arange(num)
    labels = parse_labels(request["labels"], seed, num, experiment.num_classes)
    if edit and edit.labels is not None and not request["labels"]:
        labels = edit.labels[everyone % len(edit.labels)]
    sampling = json.loads(config.sampling.to_json())
    sampling["spacing"] = experiment.sampling.chosen_spacing  # what 'auto' stands for may change
    record = {**request, "sampling": sampling, "step": run.step}
    del record["batch_size"]
    if run.exported:
        record["exported"] = run.exported
    if experiment.autoencoder is not None:  # read, and refused, before anything is written
        record["autoencoder"] = experiment.pretrained.sha256
    if edit:
        record["edit"] = edit.about()
    if frames or windows > 1:
        record["frames"] = {"of": frames and frames.fingerprint(), "windows": windows}
    out = out or workdir / sample_files.SAMPLES / sample_files.folder_name(record)
    with hosts.held_by_main(lock_folder(out)):
        is_done = sample_files.is_done(out, record)
        hosts.wait_for_all("looked")
        if not is_done:
            _draw(run, out, record, labels, edit, windows)
    return out


def _draw(
    run: Run, out: Path, record: dict, labels: np.ndarray | None, edit: Edit | None, windows: int
) -> None:
    """Draws what is missing of the samples of `record` in the folder `out`, which is locked."""
    experiment, num, seed = run.experiment, record["num"], record["seed"]
    if hosts.is_main():
        sample_files.begin(out, record)
    hosts.wait_for_all("begun")
    sampler = experiment.sampler(run.mesh, seed, edit and edit.order(experiment.sampling))
    give = edit.giver(experiment, run.mesh) if edit else lambda indices: NOTHING
    batch = round_up(min(run.batch_size, num), run.mesh)
    done = sum(len(part) for part in sample_files.drawn_parts(out))
    try:
        with progress(num, "images", initial=done) as bar:
            for start in range(done, num, batch):
                indices = np.arange(start, start + batch, dtype=np.int32)
                wanted = None if labels is None else labels[np.minimum(indices, num - 1)]
                condition = make_condition(experiment, run.source, indices, wanted)
                images = sampler(run.params, indices, condition, give(indices))
                images = edit.keep(images, indices) if edit else images
                images = run.extended(sampler, images, indices, condition, windows)[: num - start]
                if hosts.is_main():
                    sample_files.save_part(out, start, images)
                bar.update(len(images))
    except process.NotFiniteError:
        if hosts.is_main():
            sample_files.withdraw(out)
        raise
    if hosts.is_main():
        columns = grid_columns(experiment.num_classes)
        sample_files.finish(out, labels, columns, _frames_before(run, num))
    hosts.wait_for_all("sampled")


def _frames_before(run: Run, num: int) -> np.ndarray | None:
    """The given frames, uint8, of the videos that are played."""
    indices = np.arange(min(num, sample_files.PLAYED))
    frames = make_condition(run.experiment, run.source, indices, None).frames
    if frames is None:
        return None
    return np.asarray(process.to_uint8(frames, run.experiment.objective.input_scale))
