"""Draws samples from the EMA weights of a run, or from an export; a stopped command continues.

    python -m launch.sample --pretrained                # digits, before any training
    python -m launch.sample --workdir=runs/digits --num=100
    python -m launch.sample --workdir=runs/digits --num=20 --labels=7 --sampler=ddim --steps=50
    python -m launch.sample --workdir=runs/digits --num=100 --nocarry   # latents not carried
    python -m launch.sample --init_from=exports/digits --num=100        # weights of launch.export

Writes samples.npz (arr_0 uint8 NHWC; labels, also as arr_1) and grid.png; videos also as
samples.gif and, with PyAV, samples.mp4. A sample depends on --seed and its index alone, not on the
batch size or the number of devices.

One picture instead, written to pictures/ in the run directory, or in --out:

    python -m launch.sample --pretrained --show=classes       # a column for each class
    python -m launch.sample --pretrained --show=sweep         # the same, each row from one noise
    python -m launch.sample --pretrained --show=interpolate   # from one sample's noise to another's
    python -m launch.sample --pretrained --show=trajectory    # x_t and the estimate of x_0, by step
    python -m launch.sample --pretrained --show=guidance      # one noise, the guidance growing
    python -m launch.sample --pretrained --show=steps         # quality by sampler and steps

Samples that begin with something given: images of which a part is drawn anew (RePaint), or all
from a noise level on (SDEdit), and clips that a video model continues, window after window:

    python -m launch.sample --workdir=runs/mine --images=photos --mask=centre
    python -m launch.sample --workdir=runs/mine --images=cat.png --mask=cat_mask.png --num=8
    python -m launch.sample --pretrained --noise_level=0.6 --labels=3     # ten real digits, as 3
    python -m launch.sample --workdir=runs/clips --frames=clip.mp4 --extend=4 --num=8
"""

import json
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.console import progress, say
from diffusion_jax.data.arrays import Arrays
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.experiment import given, sample_files
from diffusion_jax.experiment.drawing import Run, open_run, parse_labels
from diffusion_jax.experiment.given import Edit, read_edit, read_frames
from diffusion_jax.experiment.grid import grid_columns, make_condition
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.show import KINDS, show, show_edit
from diffusion_jax.experiment.weights import NEWEST, Checkpoint
from diffusion_jax.experiment.workdir import read_workdir
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.sharding import Mesh, round_up
from diffusion_jax.sampling.editing import NOTHING
from diffusion_jax.sampling.spacings import SPACINGS
from diffusion_jax.storage.locks import lock_folder
from launch.common import arguments, cli, distributed
from launch.common.options import chosen_checkpoint, define_checkpoint, opened_folder
from launch.pretrained import unpack_pretrained

NUM = 64


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


def override(config: ConfigDict, options: flags.FlagValues) -> ConfigDict:
    """A run's config with what the flags say of sampling."""
    for name, section, field in (
        ("steps", "sampling", "steps"),
        ("sampler", "sampling", "sampler"),
        ("spacing", "sampling", "spacing"),
        ("guidance", "sampling", "guidance"),
        ("autoencoder", "autoencoder", "weights"),
    ):
        if options[name].value is not None:
            config[section][field] = options[name].value
    if not options.carry:
        config.sampling.carry_decay = 1.0
    return config


def from_flags(workdir: Path, config: ConfigDict, options: flags.FlagValues, **begun) -> Path:
    """`sample` of what the flags ask for; `begun` are its edit, frames and windows."""
    request = {name: options[name].value for name in ("num", "labels", "seed", "batch_size")}
    out = Path(options.out) if options.out else None
    checkpoint = chosen_checkpoint(options)
    return sample(config, workdir, out, request, checkpoint=checkpoint, **begun)


def define_flags(num: int) -> None:
    """Of `override` and `from_flags`; `num` samples by default."""
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.folder("init_from", None, "Folder of launch.export, instead of a run.")
    arguments.count("num", num, "Number of samples.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    flags.DEFINE_string("sampler", None, "ddpm, ddpm_small, ddpm_learned, ddim, dpmpp_2m, heun.")
    arguments.count("steps", None, "Reverse steps; the config's.")
    arguments.choice("spacing", None, "Which noise levels; the config's.", SPACINGS)
    arguments.number("guidance", None, "Guidance weight w, 0 for none; the config's.")
    arguments.path("autoencoder", None, "Its folder or file of weights, for latents; the config's.")
    define_checkpoint()
    flags.DEFINE_bool("carry", True, "Carry the latents from one reverse step to the next.")
    arguments.seed("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    arguments.count("batch_size", 64, "Samples at a time; does not change them.")
    arguments.folder("out", None, "Folder to write to; one in that of the weights.")
    distributed.define_flags()


def main(options: flags.FlagValues) -> None:
    """Samples, or shows, as the flags say."""
    distributed.initialize(options)
    if options.pretrained and options.init_from:
        raise UserError("--pretrained is a run, and --init_from an export: give one of them")
    if options.pretrained:
        workdir = unpack_pretrained(Path(options.workdir or "runs/pretrained"))
    else:
        workdir = opened_folder(options)
    config = override(read_workdir(workdir), options)
    if options.show:
        path = show(config, workdir, options)
        say(f"Written: {path}")
        return
    given.check_windows(options.extend, config)
    edit = read_edit(config, options.num, options)
    frames = read_frames(options.frames, config) if options.frames else None
    begun = dict(edit=edit, frames=frames, windows=options.extend)
    out = from_flags(workdir, config, options, **begun)
    files = ["samples.npz", "grid.png", "samples.gif", "samples.mp4"]
    written = [str(out / name) for name in files if (out / name).exists()]
    if edit:
        written.append(str(show_edit(edit, workdir, out, read_request(out)["step"])))
    say(f"{options.num} samples: {', '.join(written)}")


if __name__ == "__main__":
    define_flags(num=NUM)
    flags.DEFINE_bool("pretrained", False, "Sample the run of digits that comes with this package.")
    arguments.choice("show", None, "Draw this picture instead; --num are its rows.", KINDS)
    given.define_flags()
    for module in (distributed, given):
        flags.adopt_module_key_flags(module)  # for --help
    cli.run(lambda: main(flags.FLAGS), __doc__)
