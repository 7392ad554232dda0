"""Draws samples from the EMA weights of a run, in batches; a stopped command continues.

    python -m launch.sample --workdir=runs/digits --num=100
    python -m launch.sample --workdir=runs/digits --num=20 --labels=7 --sampler=ddim --steps=50
    python -m launch.sample --workdir=runs/digits --num=100 --nocarry     # latents not carried

Writes samples.npz (arr_0 uint8 NHWC, labels) and grid.png. A sample depends on --seed and its index
alone, not on the batch size or the number of devices.
"""

import json
import shutil
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from diffusion_jax import hosts
from diffusion_jax.checkpoints import abstract_like, restore_newest
from diffusion_jax.errors import UserError, check_at_least
from diffusion_jax.files import write_atomically
from diffusion_jax.reporting.grids import save_grid
from diffusion_jax.sampling import random_labels
from diffusion_jax.sharding import Mesh, make_mesh, of_state, round_up
from launch import cli, distributed
from launch.build import Experiment, build, build_source
from launch.grid import grid_columns, make_condition
from launch.workdir import read_workdir


def restore_ema(folder: Path, config: ConfigDict, experiment: Experiment, mesh: Mesh):
    """(EMA parameters, step) of the newest checkpoint in a folder that is whole.

    Raises:
      UserError: if the run has none.
    """
    shapes = jax.eval_shape(lambda: experiment.init_state(config.seed, config.train.steps))
    state = restore_newest(folder, abstract_like(shapes, of_state(shapes, mesh)))
    if state is None:
        raise UserError(f"{folder} has no checkpoint yet: train for longer")
    return state.ema, int(state.step)


def parse_labels(text: str, seed: int, num: int, num_classes: int) -> np.ndarray | None:
    """(num,) int32 labels: the given ones in turn, or uniform draws keyed by sample index.

    Raises:
      UserError: for labels that are no classes of the model.
    """
    if not text:
        return (
            np.asarray(random_labels(seed, jnp.arange(num), num_classes)) if num_classes else None
        )
    if not num_classes:
        raise UserError(f"--labels is {text}: this model has no classes; leave the flag out")
    try:
        labels = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--labels is {text!r}: give numbers with commas, as 3,1,4") from error
    for label in labels:
        if not 0 <= label < num_classes:
            raise UserError(f"--labels has {label}: the classes are 0 to {num_classes - 1}")
    return np.resize(np.array(labels, np.int32), num)


def sample(
    config: ConfigDict,
    workdir: Path,
    out: Path | None,
    request: dict,
    mesh: Mesh | None = None,
    checkpoints: str = "checkpoints",
) -> Path:
    """Draws what `request` asks for; returns the folder of samples.npz and grid.png.

    Args:
      config: of the run, with the sampling section to use.
      out: folder to write to, None for one in `workdir` named after the request.
      request: num, labels, seed, batch_size.
      mesh: to sample on, None for the config's.
      checkpoints: folder in `workdir` whose newest checkpoint is sampled: this, or 'best'.
    """
    check_at_least("--num", request["num"], 1)
    check_at_least("--batch_size", request["batch_size"], 1)
    experiment = build(config)
    num, seed = request["num"], request["seed"]
    labels = parse_labels(request["labels"], seed, num, experiment.num_classes)
    source = build_source(config, experiment) if experiment.conditioning_frames else None
    mesh = mesh or make_mesh(**config.mesh)
    params, step = restore_ema(workdir / checkpoints, config, experiment, mesh)
    record = {**request, "sampling": json.loads(config.sampling.to_json()), "step": step}
    del record["batch_size"]
    out = out or workdir / "samples" / _name(record)
    is_done = _is_done(out, record)
    hosts.wait_for_all("begun")
    if is_done:
        return out
    parts = out / "parts"
    sampler = experiment.sampler(mesh, seed)
    batch = round_up(min(request["batch_size"], num), mesh)
    done = sum(len(np.load(part, mmap_mode="r")) for part in sorted(parts.glob("*.npy")))
    with cli.progress(num, "images", initial=done) as bar:
        for start in range(done, num, batch):
            indices = np.arange(start, start + batch, dtype=np.int32)
            wanted = None if labels is None else labels[np.minimum(indices, num - 1)]
            condition = make_condition(experiment, source, indices, wanted)
            images = sampler(params, indices, condition)[: num - start]
            if hosts.is_main():
                _save_part(parts / f"{start:09d}.npy", images)
            bar.update(len(images))
    if hosts.is_main():
        _finish(out, experiment, labels)
    hosts.wait_for_all("sampled")
    return out


def _finish(out: Path, experiment: Experiment, labels: np.ndarray | None) -> None:
    """Makes samples.npz and grid.png of the parts."""
    parts = out / "parts"
    arrays = [np.load(part, mmap_mode="r") for part in sorted(parts.glob("*.npy"))]
    columns = grid_columns(experiment.num_classes)
    shown = 10 * columns
    first = np.concatenate([array[:shown] for array in arrays[:shown]])[:shown]
    save_grid(out / "grid.png", first, columns)
    _save_samples(out / "samples.npz", arrays, labels)
    shutil.rmtree(parts)


def _name(record: dict) -> str:
    sampling = record["sampling"]
    name = f"step{record['step']}_{sampling['sampler']}{sampling['steps']}_n{record['num']}"
    name += f"_seed{record['seed']}"
    if sampling["guidance"]:
        name += f"_w{sampling['guidance']:g}"
    if sampling["carry_decay"]:
        name += "_nocarry"
    return name + ("_labels" + record["labels"].replace(",", "-")[:60] if record["labels"] else "")


def _is_done(out: Path, record: dict) -> bool:
    """Whether the request is answered already; if not, makes its folder, or finds it begun."""
    path = out / "request.json"
    text = json.dumps(record, indent=2) + "\n"
    try:
        if path.exists() and path.read_text() != text:
            raise UserError(f"{out} holds samples of another request: choose another --out")
        if (out / "samples.npz").exists():
            return True
        (out / "parts").mkdir(parents=True, exist_ok=True)
        if hosts.is_main():
            write_atomically(path, lambda partial: partial.write_text(text))
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): choose an --out") from error
    return False


def _save_part(path: Path, images: np.ndarray) -> None:
    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, images)

    write_atomically(path, write)


def _save_samples(path: Path, arrays: list[np.ndarray], labels: np.ndarray | None) -> None:
    """Writes the .npz, one array in memory at a time."""
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                header = dict(descr="|u1", fortran_order=False, shape=shape)
                np.lib.format.write_array_header_1_0(file, header)
                for array in arrays:
                    file.write(np.ascontiguousarray(array))
            if labels is not None:
                with archive.open("labels.npy", "w") as file:
                    np.lib.format.write_array(file, labels)

    write_atomically(path, write)


def override(config: ConfigDict, options: flags.FlagValues) -> ConfigDict:
    """A run's config with what the flags say of sampling."""
    for name, section, field in (
        ("steps", "sampling", "steps"),
        ("sampler", "sampling", "sampler"),
        ("guidance", "sampling", "guidance"),
        ("autoencoder", "autoencoder", "weights"),
    ):
        if options[name].value is not None:
            config[section][field] = options[name].value
    if not options.carry:
        config.sampling.carry_decay = 1.0
    return config


def from_flags(workdir: Path, config: ConfigDict, options: flags.FlagValues) -> Path:
    """`sample` of what the flags ask for."""
    request = {name: options[name].value for name in ("num", "labels", "seed", "batch_size")}
    checkpoints = "best" if options.best else "checkpoints"
    out = Path(options.out) if options.out else None
    return sample(config, workdir, out, request, checkpoints=checkpoints)


def read_request(out: Path) -> dict:
    """What the samples in a folder are."""
    return json.loads((out / "request.json").read_text())


def define_flags(num: int) -> None:
    """Of `override` and `from_flags`; `num` samples by default."""
    flags.DEFINE_string("workdir", None, "Run directory of launch.train.")
    flags.DEFINE_integer("num", num, "Number of samples.")
    flags.DEFINE_string("labels", "", "Classes, as 3,1,4, given to the samples in turn; '' draws.")
    flags.DEFINE_string("sampler", None, "ddpm, ddpm_small, ddpm_learned, ddim, dpmpp_2m, heun.")
    flags.DEFINE_integer("steps", None, "Reverse steps; the config's.")
    flags.DEFINE_float("guidance", None, "Guidance weight w, 0 for none; the config's.")
    flags.DEFINE_string("autoencoder", None, "Its safetensors file, for latents; the config's.")
    flags.DEFINE_bool("best", False, "The checkpoint of lowest FID, where train.eval_every is set.")
    flags.DEFINE_bool("carry", True, "Carry the latents from one reverse step to the next.")
    flags.DEFINE_integer("seed", 0, "Decides, with its index, a sample's noise and drawn label.")
    flags.DEFINE_integer("batch_size", 64, "Samples at a time; does not change them.")
    flags.DEFINE_string("out", None, "Folder to write to; one in the run directory.")
    distributed.define_flags()


def main(options: flags.FlagValues) -> None:
    """Samples as the flags say."""
    distributed.initialize(options)
    workdir = Path(options.workdir)
    out = from_flags(workdir, override(read_workdir(workdir), options), options)
    cli.say(f"{options.num} samples: {out / 'samples.npz'}, {out / 'grid.png'}")


if __name__ == "__main__":
    define_flags(num=64)
    flags.adopt_module_key_flags(distributed)  # for --help
    flags.mark_flag_as_required("workdir")
    cli.run(lambda: main(flags.FLAGS), __doc__)
