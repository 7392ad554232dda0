"""Cut a folder into parts that are small enough to carry, and put them together again.

    python3 parts.py BUNDLE PIECES    # on the other machine: Python alone, nothing installed

A piece is a folder, packed with tar and cut into files named

    PIECE-WHOLE-02of03-PART.part

where WHOLE is the start of the SHA-256 of the archive and PART that of this file. A name says all
that there is to check, so parts may arrive in any order, over several visits, with no list of them.
`gather` keeps those that have arrived, and unpacks a piece once it is complete.
"""

import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

HASH = 16  # hexadecimal digits of a SHA-256 in a name
BLOCK = 2**20
NAME = re.compile(rf"([a-z_]+)-([0-9a-f]{{{HASH}}})-(\d+)of(\d+)-([0-9a-f]{{{HASH}}})\.part")


class PartError(ValueError):
    """A part that is not what its name says, or parts that do not belong together."""


class Part(NamedTuple):
    """A file of a piece, as its name describes it; `number` runs from 1 to `total`."""

    path: Path
    piece: str
    whole: str
    number: int
    total: int
    hash: str


def split(folder: Path, out: Path, piece: str, limit: int) -> list[Path]:
    """Cut a folder into parts in `out`, and remove the parts of this piece that were there.

    Args:
      piece: its name, lower-case letters and underscores.
      limit: size of a part at most, bytes.

    Raises:
      PartError: for a limit under one byte.
    """
    if limit < 1:
        raise PartError(f"parts of {limit} bytes: give at least one")
    out.mkdir(parents=True, exist_ok=True)
    before = [part.path for part in find(out) if part.piece == piece]
    with tempfile.TemporaryDirectory(dir=out) as beside:
        archive = Path(beside) / "archive"
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, arcname=".", filter=_without_history)
        whole, count = _hash(archive), -(-archive.stat().st_size // limit)
        width, made = len(str(count)), []
        with archive.open("rb") as file:
            for number in range(1, count + 1):
                partial = Path(beside) / "part"
                with partial.open("wb") as target:
                    _copy(file, target, limit)
                place = f"{number:0{width}}of{count:0{width}}"
                made.append(out / f"{piece}-{whole}-{place}-{_hash(partial)}.part")
                partial.replace(made[-1])
    for path in before:
        if path not in made:
            path.unlink(missing_ok=True)
    return made


def find(folder: Path) -> list[Part]:
    """Return the parts in a folder, in order; other files are left alone."""
    found = []
    for path in sorted(folder.glob("*.part")):
        if match := NAME.fullmatch(path.name):
            piece, whole, number, count, part = match.groups()
            found.append(Part(path, piece, whole, int(number), int(count), part))
    return sorted(found, key=lambda part: (part.piece, part.whole, part.number))


def check(part: Part) -> None:
    """Raise `PartError` if a part is not what its name says."""
    if (found := _hash(part.path)) != part.hash:
        raise PartError(
            f"{part.path.name} is damaged: its SHA-256 begins with {found} and not {part.hash}; "
            "copy it again"
        )


def join(parts: list[Part], folder: Path) -> None:
    """Unpack a complete piece to `folder`, whole or not at all, in place of what is there.

    Raises:
      PartError: for parts that are damaged, missing, or of different versions of the piece.
    """
    first = parts[0]
    if len({part.whole for part in parts}) > 1:
        raise PartError(f"there are parts of two versions of {first.piece}: remove the older ones")
    if missing := sorted(set(range(1, first.total + 1)) - {part.number for part in parts}):
        raise PartError(
            f"{first.piece} lacks part {', '.join(map(str, missing))} of {first.total}: copy it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".joining-") as beside:
        archive, unpacked = Path(beside) / "archive", Path(beside) / "unpacked"
        with archive.open("wb") as target:
            for part in parts:
                check(part)
                with part.path.open("rb") as file:
                    shutil.copyfileobj(file, target, BLOCK)
        if _hash(archive) != first.whole:
            raise PartError(f"the parts of {first.piece} do not make its archive: copy them again")
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        (unpacked / ".piece").write_text(first.whole)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.replace(folder)


def version(folder: Path) -> str:
    """Return which version of a piece lies in a folder, '' for none."""
    marker = folder / ".piece"
    return marker.read_text() if marker.exists() else ""


def gather(bundle: Path, pieces: Path) -> Iterator[str]:
    """Keep the parts that have arrived, unpack what is complete, and yield a line for each piece.

    The parts of the bundle are copied, and stay where they are.

    Raises:
      PartError: for a damaged part, or two versions of a piece.
    """
    waiting = pieces / "parts"
    waiting.mkdir(parents=True, exist_ok=True)
    arrived = find(bundle)
    newest = {part.piece: part.whole for part in arrived}
    if twice := [part for part in arrived if newest[part.piece] != part.whole]:
        raise PartError(f"{bundle} has two versions of {twice[0].piece}: remove the older parts")
    for part in find(waiting):
        if newest.get(part.piece, part.whole) != part.whole:
            part.path.unlink()
    for part in arrived:
        kept = waiting / part.path.name
        if version(pieces / part.piece) != part.whole and not kept.exists():
            check(part)
            partial = kept.with_suffix(".partial")
            shutil.copyfile(part.path, partial)
            partial.replace(kept)
    found = find(waiting)
    for piece in dict.fromkeys(part.piece for part in found):
        parts = [part for part in found if part.piece == piece]
        missing = parts[0].total - len(parts)
        if missing > 0:
            yield f"{piece}: {len(parts)} of {parts[0].total} parts have arrived"
            continue
        join(parts, pieces / piece)
        for part in parts:
            part.path.unlink()
        yield f"{piece}: complete"


def _without_history(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out when and by whom a file was written: the same files make the same parts."""
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size and (block := source.read(min(BLOCK, size))):
        target.write(block)
        size -= len(block)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("error: give the folder of the parts and the one to unpack to")
    try:
        for line in gather(Path(sys.argv[1]), Path(sys.argv[2])):
            print(line, flush=True)
    except (PartError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
