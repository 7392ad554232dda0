"""The folder of a request for samples: parts while it is being drawn, then samples.npz, grid.png.

Videos also become samples.gif, and samples.mp4 where PyAV is installed.
"""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.reporting.animation import can_write_mp4, save_gif, save_mp4
from diffusion_jax.reporting.grids import sample_grid, save_grid
from diffusion_jax.storage.files import write_atomically, writing
from diffusion_jax.storage.json_files import read_json, write_json
from diffusion_jax.storage.schemas import REQUEST
from diffusion_jax.storage.untrusted import check_regular

SHOWN = 100  # images in a grid
PLAYED = 16  # videos in a grid, and side by side
SAMPLES = "samples"  # the folder in a run that holds those of requests
# Fields of sampling that the name of a folder does not tell.
UNNAMED = ("schedule", "guidance_interval", "guided_channels", "time_shift", "carry_decay")


def folder_name(record: dict, own: dict) -> str:
    """Return the name of the folder for a request.

    Args:
      record: the request; see `read_request`.
      own: the `sampling` section of the run itself. Fields that differ from it, and that the name
        does not tell, are told apart by a hash.
    """
    sampling = record["sampling"]
    name = f"step{record['step']}_{sampling['sampler']}{sampling['steps']}_n{record['num']}"
    name += f"_seed{record['seed']}"
    if sampling["spacing"] != "even":
        name += f"_{sampling['spacing']}"
    if sampling["guidance"]:
        name += f"_w{sampling['guidance']:g}"
    if sampling["carry_decay"]:
        name += "_nocarry"
    name += "_labels" + record["labels"].replace(",", "-")[:60] if record["labels"] else ""
    rest = [record[part] for part in ("edit", "frames") if part in record]
    changed = {field: sampling[field] for field in UNNAMED if sampling[field] != own[field]}
    if changed.get("carry_decay") == 1:  # what _nocarry stands for
        del changed["carry_decay"]
    rest += [changed] if changed else []
    return name + (f"_{hashlib.sha256(str(rest).encode()).hexdigest()[:12]}" if rest else "")


def is_done(out: Path, record: dict) -> bool:
    """Return whether the request is answered already.

    Raises:
      UserError: for a folder of another request, or one whose request.json is damaged or missing.
    """
    if (out / "request.json").exists():
        found = read_request(out)
        if found != json.loads(json.dumps(record)):  # with lists for tuples
            raise UserError(f"{out} holds samples of another request: choose another --out")
    elif (out / "samples.npz").exists():
        raise UserError(f"{out} holds a samples.npz of unknown origin: choose another --out")
    return (out / "samples.npz").exists()


def begin(out: Path, record: dict) -> None:
    """Write the request into a folder that is locked, for the parts to follow.

    Raises:
      WriteError: if that cannot be done.
    """
    with writing(out):
        (out / "parts").mkdir(exist_ok=True)
    write_json(out / "request.json", record)


def read_request(out: Path) -> dict:
    """Return the request that the samples in a folder answer.

    Raises:
      UserError: if request.json is missing or damaged.
    """
    return read_json(out / "request.json", REQUEST)


def withdraw(out: Path) -> None:
    """Remove what `begin` and `save_part` wrote, for a request that cannot be answered."""
    shutil.rmtree(out / "parts", ignore_errors=True)
    (out / "request.json").unlink(missing_ok=True)
    made = [out, out.parent] if out.parent.name == SAMPLES else [out]
    for folder in made:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def drawn_parts(out: Path) -> list[np.ndarray]:
    """Return the parts so far, in order, on disk.

    A part that is damaged, or is not the next of those before it, counts as not drawn, and so do
    those after it.
    """
    arrays, done = [], 0
    for part in sorted((out / "parts").glob("*.npy")):
        try:
            check_regular(part)
            array = np.load(part, mmap_mode="r")
        except (ValueError, EOFError):
            break
        if part.stem != _part_name(done):
            break
        arrays.append(array)
        done += len(array)
    return arrays


def save_part(out: Path, start: int, images: np.ndarray) -> None:
    """Write the samples from index `start` on."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, images)

    write_atomically(out / "parts" / f"{_part_name(start)}.npy", write)


def _part_name(start: int) -> str:
    return f"{start:09d}"


def finish(out: Path, labels: np.ndarray | None, before: np.ndarray | None) -> None:
    """Turn the parts into the files of the folder; the grid shows the first samples.

    Args:
      labels: (N,) integers of all samples, None for a model without classes.
      before: (N, frames, H, W, C) uint8, the given frames of the first videos; None for none.
    """
    arrays = drawn_parts(out)
    shown = PLAYED if arrays[0].ndim == 5 else SHOWN
    first = np.concatenate([array[:shown] for array in arrays[:shown]])[:shown]
    known = None if labels is None else labels[:shown]
    save_grid(out / "grid.png", sample_grid(first, known, before))
    if first.ndim == 5:
        given = 0 if before is None else before.shape[1]
        videos = first if before is None else np.concatenate([before, first], axis=1)
        save_gif(out / "samples.gif", videos, given)
        if can_write_mp4():
            save_mp4(out / "samples.mp4", videos, given)
    _save_samples(out / "samples.npz", arrays, labels)
    shutil.rmtree(out / "parts")


def _save_samples(path: Path, arrays: list[np.ndarray], labels: np.ndarray | None) -> None:
    """Write the .npz, with one array in memory at a time."""
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                header = dict(descr="|u1", fortran_order=False, shape=shape)
                np.lib.format.write_array_header_1_0(file, header)
                for array in arrays:
                    file.write(np.ascontiguousarray(array).data)
            if labels is not None:
                # guided-diffusion's sampler calls them arr_1, of PyTorch's integers.
                for name, array in (("labels", labels), ("arr_1", labels.astype(np.int64))):
                    with archive.open(f"{name}.npy", "w") as file:
                        np.lib.format.write_array(file, array)

    write_atomically(path, write)
