"""The run of digits that comes with this package; digits/README.md says how it was made."""

import shutil
from pathlib import Path

from diffusion_jax import hosts
from diffusion_jax.errors import UserError

DIGITS = Path(__file__).parent / "digits"
CARD = "README.md"


def unpack_pretrained(workdir: Path) -> Path:
    """Copies the run to a directory, if it is not there already, as any other run; returns that.

    Raises:
      UserError: if something else is there, or it cannot be written.
    """
    try:
        if hosts.is_main() and not workdir.exists():
            partial = workdir.with_name(workdir.name + ".partial")
            shutil.copytree(DIGITS, partial, dirs_exist_ok=True)
            partial.rename(workdir)
        hosts.wait_for_all("unpacked")
        card = workdir / CARD
        is_ours = card.is_file() and card.read_text() == (DIGITS / CARD).read_text()
    except OSError as error:
        raise UserError(
            f"--workdir {workdir} cannot be written ({error.strerror}): choose another"
        ) from error
    if not is_ours:
        raise UserError(f"--workdir {workdir} holds something else than the pretrained run")
    return workdir
