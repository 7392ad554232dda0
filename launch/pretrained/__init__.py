"""The run of digits that comes with this package; digits/README.md says how it was made."""

import shutil
import tempfile
from pathlib import Path

from diffusion_jax.errors import UserError
from diffusion_jax.parallel import hosts
from diffusion_jax.storage.files import writing

DIGITS = Path(__file__).parent / "digits"
CARD = "README.md"


def unpack_pretrained(workdir: Path) -> Path:
    """Copy the run to a directory, as any other run, unless it is there already; return where.

    Raises:
      UserError: if something else is there, or it cannot be written.
    """
    if hosts.is_main() and not workdir.exists():
        with writing(workdir):
            workdir.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=workdir.parent, prefix=".unpacked") as folder:
                unpacked = shutil.copytree(DIGITS, Path(folder) / DIGITS.name)
                try:
                    unpacked.rename(workdir)
                except OSError:
                    if not workdir.exists():  # another command has not unpacked it meanwhile
                        raise
    hosts.wait_for_all("unpacked")
    card = workdir / CARD
    if not (card.is_file() and card.read_bytes() == (DIGITS / CARD).read_bytes()):
        raise UserError(f"--workdir {workdir} holds something else than the pretrained run")
    return workdir
