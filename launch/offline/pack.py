"""Pack what a GPU machine without a network needs for launch/offline/run.sh, in parts.

    bash launch/offline/pack.sh --out=bundle --have=freeze.txt --train=cifar10_train.npz \\
      --test=cifar10_test.npz --inception=inception.npz

--have is what `pip freeze` prints on the machine, or the versions.json of an earlier hour there:
what it has is not brought. Without jax in it, --jax is brought too. The code is that of HEAD. A
piece that is not given, as --export of an earlier hour, is left out; run.sh passes over the stages
that want it. Copy the folder, or part by part, and call `bash run.sh --minutes=N` in it.

Compiled programs are not made here: XLA compiles them for a GPU on that GPU, and JAX's key holds
its kind, jaxlib and the CUDA version. From jax 0.11 on it holds no path (that of jax 0.10 holds the
cache's), so that those of an earlier hour, WORK/cache there, serve the next on such a machine:
--cache=DIR.
"""

from launch.common import arguments, cli
from launch.offline import parts
from launch.offline.wheels import Target, fetch, read_have, required

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError

ROOT = Path(__file__).parents[2]
CODE = ("launch", "configs", "diffusion_jax", "rin_jax", "diffussm_jax", "pyproject.toml")
EXTRAS = ("train", "data", "eval")  # of pyproject.toml, where it has them


def pack_code(folder: Path) -> None:
    """Write the files of HEAD, and a file COMMIT."""
    commit = _git("rev-parse", "HEAD").decode().strip()
    archive = folder / "code.tar"
    archive.write_bytes(_git("archive", "HEAD", *CODE))
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()
    (folder / "COMMIT").write_text(commit + "\n")
    if _git("status", "--porcelain", "--untracked-files=no"):
        say(f"Changes that are not committed are left out: the code is that of {commit[:12]}")


def pack_wheels(folder: Path, options: flags.FlagValues) -> None:
    """Download the wheels that are not there, beside the requirements to install."""
    have = read_have(Path(options.have)) if options.have else {}
    requirements = required(ROOT / "pyproject.toml", EXTRAS)
    wanted = requirements if "jax" in have else [*requirements, options.jax]
    target = Target(options.python, options.platform, have)
    packages = fetch(wanted, target, folder)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in wanted))
    say(f"{len(packages)} wheels: {', '.join(packages)}")


def prepare(images: str, folder: Path, split: str) -> None:
    """Write arrays as the shards that training reads."""
    command = [sys.executable, "-m", "launch.prepare", "--source=npz", f"--path={images}"]
    command += [f"--out={folder}", f"--split={split}"]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        raise UserError(f"--{split} {images} cannot be prepared, see above")


def main(options: flags.FlagValues) -> None:
    """Make the pieces one by one, and cut each into parts."""
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)

    def add(piece: str, folder: Path) -> None:
        made = parts.split(folder, out, piece, options.part_mib * 2**20)
        size = sum(path.stat().st_size for path in made) / 2**20
        say(f"{piece}: {size:,.1f} MiB in {len(made)} part(s)")

    with tempfile.TemporaryDirectory(dir=out, prefix=".packing-") as beside:
        for piece in ("code", "wheels", "train", "test", "inception"):
            folder = Path(beside) / piece
            folder.mkdir()
            if piece == "code":
                pack_code(folder)
            elif piece == "wheels":
                pack_wheels(folder, options)
            elif getattr(options, piece) is None:
                continue
            elif piece == "inception":
                shutil.copyfile(options.inception, folder / "inception.npz")
            else:
                prepare(getattr(options, piece), folder, piece)
            add(piece, folder)
            shutil.rmtree(folder)
    for piece in ("export", "cache"):
        if getattr(options, piece) is not None:
            add(piece, Path(getattr(options, piece)))
    for name in ("run.sh", "parts.py"):
        shutil.copy(Path(__file__).with_name(name), out)
    say(f"Packed: {out}. There: bash run.sh --minutes=N")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {ROOT}: pack from a checkout, with git")
    return done.stdout


if __name__ == "__main__":
    arguments.folder("out", None, "Folder of the bundle.", required=True)
    flags.DEFINE_string("python", "python3.12", "A Python here of the version that is there.")
    flags.DEFINE_string("platform", "manylinux_2_28_x86_64", "Newest wheels that it takes.")
    arguments.file("have", None, "Packages that are there, NAME==VERSION in lines, or NAME.")
    flags.DEFINE_string("jax", "jax[cuda13]", "What to bring where there is no jax.")
    arguments.file("train", None, "Training images, .npz with images and labels.")
    arguments.file("test", None, "Test images, .npz.")
    arguments.file("inception", None, "Weights of FID's Inception, .npz.")
    arguments.folder("export", None, "Folder of launch.export to go on from.")
    arguments.folder("cache", None, "Compiled programs of an earlier hour, its WORK/cache.")
    arguments.count("part_mib", 60, "Size of a part at most, MiB.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
