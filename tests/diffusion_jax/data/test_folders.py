"""Image folders: what is a class, in what order, and every fault by the name of its file."""

import io
import os
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.data.clips import ClipFolder
from diffusion_jax.data.folders import ImageFolder
from diffusion_jax.data.images import decode_image, pixels
from diffusion_jax.data.records import BadRecord
from diffusion_jax.data.sources import DataConfig, open_source
from diffusion_jax.errors import UserError


def write(path, grey: int = 0, size: int = 4):
    """An image file whose pixels are `grey`, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"jpg": "JPEG", "jpeg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper())
    file = io.BytesIO()
    Image.new("RGB", (size, size), (grey,) * 3).save(file, form)
    path.write_bytes(file.getvalue())


@pytest.fixture
def classes(tmp_path):
    """Classes b, a and a-b of 2, 1 and 1 images, written in a disorder."""
    for place, name in enumerate(["b/2.PNG", "a-b/0.jpeg", "b/10.webp", "a/x.JPG"]):
        write(tmp_path / name, grey=10 * place, size=4 + place)
    return tmp_path


def test_sub_folders_are_classes_in_the_order_of_their_names(classes):
    folder = ImageFolder(str(classes))
    assert folder.class_names == ("a", "a-b", "b")
    assert [folder.name(i) for i in range(len(folder))] == [
        "a/x.JPG",
        "a-b/0.jpeg",
        "b/10.webp",
        "b/2.PNG",
    ]
    assert [folder.record(i)["label"] for i in range(4)] == folder.labels.tolist() == [0, 1, 2, 2]
    assert folder.labels.dtype == np.int32
    shapes = [decode_image(folder.record(i)["image"], 3).size for i in range(4)]
    assert shapes == [(7, 7), (5, 5), (6, 6), (4, 4)]


def test_a_flat_folder_has_no_labels(tmp_path):
    write(tmp_path / "b.png")
    write(tmp_path / "a.png", grey=9)
    folder = ImageFolder(tmp_path)
    assert (len(folder), folder.class_names, folder.labels) == (2, None, None)
    record = folder.record(0)
    assert list(record) == ["image"]
    assert (pixels(decode_image(record["image"], 1)) == 9).all()


def test_loaders_can_hand_a_folder_to_other_processes(classes):
    folder = pickle.loads(pickle.dumps(ImageFolder(classes)))
    assert folder.record(3) == ImageFolder(classes).record(3)


def test_hidden_files_and_thumbnails_are_ignored(classes):
    clean = ImageFolder(classes).fingerprint()
    for name in (".DS_Store", "a/.DS_Store", "Thumbs.db", "b/thumbs.DB", "b/._2.PNG"):
        (classes / name).write_bytes(b"x")
    (classes / ".cache").mkdir()
    assert len(ImageFolder(classes)) == 4
    assert ImageFolder(classes).fingerprint() == clean


def test_the_fingerprint_is_of_names_and_sizes(classes, tmp_path_factory):
    fingerprint = ImageFolder(classes).fingerprint()
    assert len(fingerprint) == 64
    copy = tmp_path_factory.mktemp("copy")
    for path in sorted(classes.glob("*/*"), reverse=True):
        (copy / path.parent.name).mkdir(exist_ok=True)
        (copy / path.relative_to(classes)).write_bytes(path.read_bytes())
    assert ImageFolder(copy).fingerprint() == fingerprint  # wherever the folder lies
    with (copy / "a/x.JPG").open("ab") as file:
        file.write(b"\0")
    longer = ImageFolder(copy).fingerprint()
    (copy / "a/x.JPG").rename(copy / "a/y.JPG")
    assert len({fingerprint, longer, ImageFolder(copy).fingerprint()}) == 3


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="none: there is no such folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(UserError, match="path of the data set is empty"):
        ImageFolder("")
    with pytest.raises(UserError, match=": there is nothing in it"):
        ImageFolder(tmp_path)
    (tmp_path / "data.zip").write_bytes(b"x")
    with pytest.raises(UserError, match=r"data.zip: is a file, not a folder"):
        ImageFolder(tmp_path / "data.zip")


@pytest.mark.parametrize(
    "name, message",
    [
        ("notes.txt", r"notes.txt: not one of .png, .jpg, .jpeg, .webp: convert it or move"),
        ("a/notes.txt", "a/notes.txt: not one of .png"),
        ("a/scan.tif", "a/scan.tif: not one of .png"),
        ("flat.png", "flat.png lies beside the folder a: put every record into the folder of its"),
        ("a/deeper/1.png", "a: x.JPG lies beside the folder deeper"),
        ("c/deeper/1.png", "c: this class holds folders of folders: put its records directly"),
    ],
)
def test_what_does_not_belong_is_named(classes, name, message):
    write(classes / "new.png")
    (classes / name).parent.mkdir(parents=True, exist_ok=True)
    (classes / "new.png").rename(classes / name)
    with pytest.raises(UserError, match=message):
        ImageFolder(classes)


def test_an_empty_class_is_named(classes):
    (classes / "empty").mkdir()
    (classes / "empty" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(UserError, match="empty: there is nothing in it: fill it or remove it"):
        ImageFolder(classes)


def test_a_file_that_went_away_is_a_bad_record(classes):
    folder = ImageFolder(classes)
    (classes / "b/2.PNG").unlink()
    with pytest.raises(BadRecord, match=r"^b/2.PNG: does not exist$"):
        folder.record(3)


@pytest.mark.parametrize(
    "target, message",
    [
        ("nothing.png", r"is a link to nothing\.png, which does not exist"),
        ("5.png", r"cannot be read \(Too many levels of symbolic links\)"),
        ("/dev/zero", "is a device, not a file"),
        ("../fifo", "is a FIFO, not a file"),
    ],
)
@pytest.mark.parametrize("name", ["folder", "clips"])
def test_what_is_no_file_is_a_bad_record_and_no_other(tmp_path, name, target, message):
    """In a folder of images or among the frames of a clip: it stops, or the next is read."""
    place = tmp_path / "set" / ("clip" if name == "clips" else "")
    for index in (4, 6):
        write(place / f"{index}.png", grey=index)
    os.mkfifo(tmp_path / "fifo")
    clean = DataConfig(name, str(tmp_path / "set"), on_bad_record="skip")
    shape = (8, 8, 3) if name == "folder" else (1, 8, 8, 3)
    fingerprint = open_source(clean, shape, 0).fingerprint()
    (place / "5.png").symlink_to(target if name == "folder" else target.replace("../f", "../../f"))
    bad = f"(clip/)?5.png: {message}"
    with pytest.raises(BadRecord, match=bad):
        open_source(DataConfig(name, str(tmp_path / "set")), shape, 0)
    source = open_source(clean, shape, 0)
    assert source.fingerprint() == open_source(clean, shape, 0).fingerprint() != fingerprint
    if name == "folder":
        assert [source.read(index)["images"].max() for index in range(3)] == [4, 6, 6]
        assert list(source.skipped) == [1]
        return
    assert source.read(0, at=0.0)["images"].max() == 4
    with pytest.raises(UserError, match="none of the 1 records"):
        source.read(0, at=0.5)
    assert re.search(bad, source.skipped[0])


@pytest.mark.parametrize("folder", [ImageFolder, ClipFolder])
def test_a_class_that_went_away_is_named(classes, folder):
    (classes / "c").symlink_to("../elsewhere")
    with pytest.raises(UserError, match=r"c is a link to \.\./elsewhere, which does not exist"):
        folder(classes)
