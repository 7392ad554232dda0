"""Draw the samples that a request asks for into a folder; a stopped command continues."""

import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.console import progress, say
from diffusion_jax.data.arrays import Arrays
from diffusion_jax.diffusion import process
from diffusion_jax.errors import check_at_least
from diffusion_jax.experiment import sample_files
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.given import Edit
from diffusion_jax.experiment.weights import NEWEST, Checkpoint
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh
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
    """Draw what `request` asks for; return the folder of samples.npz and grid.png.

    Args:
      config: of the run, with the sampling section to use.
      workdir: the run directory, or the folder of an export.
      out: the folder to write to, None for one in `workdir` named after the request.
      request: num, labels, seed, batch_size.
      mesh: the devices to sample on, None for the config's.
      checkpoint: the checkpoint of a run.
      edit: images to inpaint or to vary, None for new ones.
      frames: what videos continue, None for the run's data; sample i has example i mod N.
      windows: windows to draw of each video, one continuing the other.

    Raises:
      UserError: for a request that the run cannot answer, or a folder of another request.
    """
    num, seed = request["num"], request["seed"]
    check_at_least("num", num, 1)
    run = open_run(config, workdir, seed, request["batch_size"], mesh, checkpoint, frames)
    experiment = run.experiment
    labels = parse_labels(request["labels"], seed, num, experiment.num_classes)
    if edit and edit.labels is not None and not request["labels"]:
        labels = np.resize(edit.labels, num)
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
    if out is None:
        own = json.loads(read_workdir(workdir).sampling.to_json())
        out = workdir / sample_files.SAMPLES / sample_files.folder_name(record, own)
    with hosts.held_by_main(lock_folder(out)):
        is_done = sample_files.is_done(out, record)
        hosts.wait_for_all("looked")
        if not is_done:
            _draw(run, out, record, labels, edit, windows)
    return out


def _draw(
    run: Run, out: Path, record: dict, labels: np.ndarray | None, edit: Edit | None, windows: int
) -> None:
    """Draw the samples of `record` that are missing in the folder `out`, which is locked."""
    experiment, num = run.experiment, record["num"]
    if hosts.is_main():
        sample_files.begin(out, record)
    hosts.wait_for_all("begun")
    order = edit.order(experiment.sampling) if edit else None
    sampler = experiment.sampler(run.mesh, run.seed, order)
    give = edit.giver(experiment, run.mesh) if edit else lambda places: NOTHING
    done = sum(len(part) for part in sample_files.drawn_parts(out))
    say(f"Drawing {num - done:,} samples, {experiment.sampling.steps} steps each...")
    try:
        with progress(num, "images", initial=done) as bar:
            for batch in run.batches(sampler, np.arange(num), labels, give, done):
                images = edit.keep(batch.samples, batch.indices) if edit else batch.samples
                images = run.extended(sampler, images, batch.indices, batch.condition, windows)
                if hosts.is_main():
                    sample_files.save_part(out, batch.start, images[: batch.wanted])
                bar.update(batch.wanted)
    except process.NotFiniteError:
        if hosts.is_main():
            sample_files.withdraw(out)
        raise
    if hosts.is_main():
        played = np.arange(min(num, sample_files.PLAYED))
        sample_files.finish(out, labels, run.frames_before(played))
    hosts.wait_for_all("sampled")
