"""Read folders of files as data sets."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.data.images import LARGEST
from diffusion_jax.data.records import decoding, naming
from diffusion_jax.errors import UserError
from diffusion_jax.storage.untrusted import Unreadable, check_regular, read_regular

IMAGES = (".png", ".jpg", ".jpeg", ".webp")


class RecordFolder:
    """Names and labels of records that lie in `path`, or in one sub-folder of it to a class.

    Records are ordered by class, then name. Hidden files and Thumbs.db are ignored; any other file
    that is not a record is an error.

    Args:
      path: the folder.
      list_records: folder -> sorted names of the records in it, or None if it holds folders only,
        which are classes.

    Attributes:
      path: the folder.
      class_names: sorted names of the sub-folders, whose places are the labels; None if flat.
      labels: (N,) int32, or None if flat.

    Raises:
      UserError: for a folder that is not there or holds anything unexpected, named.
    """

    kind: str
    shape: tuple[int, ...] | None = None  # of latents alone, as the scaling
    scaling: Scaling | None = None

    def __init__(self, path: str | Path, list_records: Callable[[Path], list[str] | None]):
        self.path = Path(path)
        if not str(path):
            raise UserError("the path of the data set is empty: give its folder")
        if not os.path.isdir(path):
            found = "is a file, not a folder" if os.path.exists(path) else "there is no such folder"
            raise UserError(f"{path}: {found}: give the folder of the data set")
        names = list_records(self.path)
        if names is not None:
            self.class_names, self.labels, self._names = None, None, names
            return
        self.class_names, self._names, counts = tuple(visible(self.path)[1]), [], []
        for class_name in self.class_names:
            members = list_records(self.path / class_name)
            if members is None:
                raise UserError(
                    f"{self.path / class_name}: this class holds folders of folders: "
                    "put its records directly into it"
                )
            counts.append(len(members))
            self._names += [f"{class_name}/{member}" for member in members]
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the path of a record relative to the folder, for messages."""
        return self._names[index]

    def label(self, index: int) -> dict[str, int]:
        """Return {'label': class of a record, 0 to K-1}, or {} if the folder is flat."""
        return {} if self.labels is None else {"label": int(self.labels[index])}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the sorted (relative path, size) of all files, in hexadecimal.

        The size is in bytes, and -1 for what is not there or no file.
        """
        digest = hashlib.sha256()
        for name in sorted(self._files()):
            digest.update(os.fsencode(name) + b"\0%d\0" % _size(self.path / name))
        return digest.hexdigest()

    def check_files(self) -> None:
        """Raise `BadRecord` for the first file that is not there or no regular file."""
        for name in self._files():
            if _size(self.path / name) < 0:
                with naming(name), decoding():
                    check_regular(self.path / name)

    def _files(self) -> Iterable[str]:
        return self._names


class ImageFolder(RecordFolder):
    """PNG, JPEG and WebP files of any size, in one folder or in one sub-folder to a class.

    Folders of frames look the same and are read as classes of images: see `ClipFolder`.

    Raises:
      UserError: for a folder that is not there or has no images, a class without images, images
        beside folders, or any other file.
    """

    kind = "image"

    def __init__(self, path: str | Path):
        super().__init__(path, lambda folder: list_folder(folder, IMAGES)[0] or None)

    def record(self, index: int) -> dict:
        """Return 'image', its bytes, and 'label', if any. Raise `BadRecord` if it cannot be."""
        with naming(self.name(index)), decoding():
            image = read_regular(self.path / self.name(index), LARGEST)
        return {"image": image, **self.label(index)}


def visible(folder: Path) -> tuple[list[str], list[str]]:
    """Return sorted names of (files, folders), without hidden ones and Thumbs.db.

    Whatever is no folder counts as a file, a link to nothing as well.

    Raises:
      Unreadable: if the folder cannot be read.
    """
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower() != "thumbs.db":
                    (folders if _is_folder(entry) else files).append(entry.name)
    except OSError as error:
        raise Unreadable(folder, f"cannot be read ({error.strerror})") from error
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a file's name ends in one of the suffixes, in whatever case."""
    return name.lower().endswith(suffixes)


def list_folder(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the sorted names of (files, folders), of which there are only the ones or the others.

    Raises:
      UserError: if there are both, neither, or a file that ends in none of the suffixes.
    """
    files, folders = visible(folder)
    for name in files:
        if not has_suffix(name, suffixes):
            check_regular(folder / name)  # or it is a link to a folder that went away
            raise UserError(
                f"{folder / name}: not one of {', '.join(suffixes)}: convert it or move it away"
            )
    if files and folders:
        raise UserError(
            f"{folder}: {files[0]} lies beside the folder {folders[0]}: put every record into the "
            "folder of its class, or all into one folder without classes"
        )
    if not files and not folders:
        raise UserError(f"{folder}: there is nothing in it: fill it or remove it")
    return files, folders
