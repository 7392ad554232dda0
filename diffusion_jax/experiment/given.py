"""Images for samples to begin with, to inpaint or to vary, and frames of videos to continue."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from einops import reduce
from ml_collections import ConfigDict

from diffusion_jax.autoencoder.encoding import make_encoder
from diffusion_jax.autoencoder.moments import to_latents, unpack
from diffusion_jax.data.arrays import Arrays, npz
from diffusion_jax.data.clips import decode_window
from diffusion_jax.data.crops import CROPS
from diffusion_jax.data.folders import IMAGES, has_suffix, visible
from diffusion_jax.data.images import LARGEST, decode_image, pixels
from diffusion_jax.data.records import decoding, naming
from diffusion_jax.data.sources import DataConfig, Source, check_fit, open_source
from diffusion_jax.diffusion import process
from diffusion_jax.errors import UserError
from diffusion_jax.experiment.build import Experiment, build, build_source
from diffusion_jax.parallel.sharding import Mesh
from diffusion_jax.sampling.editing import Given, visits
from diffusion_jax.sampling.samplers import Sampling
from diffusion_jax.storage.untrusted import read_regular

SIDES = ("left", "right", "top", "bottom", "centre")
LAST = 1 - 1e-9  # the last window of a clip
OWN = 10  # examples of the run's data, where no images are given
SHOWN, MOST_FILLS = 10, 4  # given images in a picture, and draws of each
HIDDEN = (214, 120, 90)  # the colour of what is not kept


@dataclasses.dataclass(frozen=True)
class Edit:
    """Images to redraw, all of them or a part; sample i begins with image i mod N.

    Attributes:
      images: (N, H, W, C) uint8.
      labels: (N,) int32, their classes, or None.
      redraw: (H, W) bool, where they are redrawn.
      noise_level, resample: see `diffusion_jax.sampling.editing.visits`.
    """

    images: np.ndarray
    labels: np.ndarray | None
    redraw: np.ndarray
    noise_level: float
    resample: int

    @property
    def is_inpainting(self) -> bool:
        """Whether a part of the images is kept."""
        return not self.redraw.all()

    def order(self, sampling: Sampling) -> np.ndarray:
        """Return the order of the reverse steps; see `visits`."""
        resample = self.resample if self.is_inpainting else 1
        return visits(sampling.steps, self.noise_level, resample, times=sampling.times())

    def about(self) -> dict:
        """Return a record of the edit, with fingerprints of its arrays."""
        return {
            "images": Arrays(self.images, self.labels).fingerprint(),
            "redraw": hashlib.sha256(np.packbits(self.redraw).data).hexdigest(),
            "noise_level": self.noise_level,
            "resample": self.resample,
        }

    def giver(self, experiment: Experiment, mesh: Mesh) -> Callable[[np.ndarray], Given]:
        """Return a function from sample indices (B,) to what these samples are given.

        Latents are the means of the autoencoder's posterior.
        """
        redraw, encode = self.redraw, None
        if experiment.autoencoder is not None:
            encode = make_encoder(experiment.pretrained, mesh)
            factor = experiment.pretrained.model.factor
            # A latent is kept where all of its pixels are.
            redraw = reduce(redraw, "(h f) (w g) -> h w", np.any, f=factor, g=factor)

        def give(indices: np.ndarray) -> Given:
            images = self.images[indices % len(self.images)]
            if encode is None:
                x0 = process.to_model_range(images, experiment.objective.input_scale)
            else:
                x0 = to_latents(unpack(encode(images)[0]).mean, experiment.scaling)
            x0 = np.asarray(x0, np.float32)
            if not self.is_inpainting:
                return Given(images=x0)
            return Given(images=x0, redraw=np.broadcast_to(redraw[..., None], (*x0.shape[:3], 1)))

        return give

    def keep(self, drawn: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return the drawn images, with the given pixels where these are kept."""
        return np.where(self.redraw[..., None], drawn, self.images[indices % len(self.images)])

    def rows(self, drawn: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return rows (R, columns, H, W, 3) of given, kept and drawn images, and their names."""
        columns = min(SHOWN, len(self.images), len(drawn))
        images = self.images[:columns]
        fills = max(1, min(MOST_FILLS, len(drawn) // len(self.images)))
        starts = [fill * len(self.images) for fill in range(fills)]
        rows = [images, *(drawn[start : start + columns] for start in starts)]
        names = ["given", *["drawn"] * fills]
        rows = np.broadcast_to(np.stack(rows), (len(rows), *images.shape[:3], 3))
        if self.is_inpainting:
            kept = np.where(self.redraw[..., None], np.array(HIDDEN, np.uint8), rows[0])
            rows = np.insert(rows, 1, kept, axis=0)
            names.insert(1, "kept")
        return rows, names


def read_edit(
    config: ConfigDict,
    num: int,
    *,
    images: str | None = None,
    mask: str = "",
    noise_level: float | None = None,
    resample: int = 10,
) -> Edit | None:
    """Read the images to edit; None if nothing asks for an edit.

    Args:
      config: of the run, with the sampling section to use.
      num: images that are read, at most.
      images: an .npz, a picture, or a folder of pictures; None for ten of the run's data.
      mask: see `parse_mask`.
      noise_level, resample: see `Edit`.

    Raises:
      UserError: for images or a mask that cannot be read or do not fit the model, or no task.
    """
    if not mask and noise_level is None:
        if images:
            raise UserError("--images wants --mask, to inpaint, or --noise_level, to vary them")
        return None
    experiment = build(config)
    if len(experiment.sample_shape) != 3:
        raise UserError("--mask and --noise_level are for images, and this run draws videos")
    shape = experiment.image_shape
    found, labels = _read_images(images, config, experiment, num)
    if labels is not None and experiment.num_classes <= labels.max():
        labels = None  # of another data set, or of a model without classes
    redraw = parse_mask(mask, shape[:2])
    edit = Edit(found, labels, redraw, 1.0 if noise_level is None else noise_level, resample)
    edit.order(experiment.sampling)  # raises
    return edit


def parse_mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return where to redraw, (H, W) bool.

    Args:
      text: a name of `SIDES`; a picture of that size, whose pixels are redrawn where they are
        lighter than half grey once the picture is laid on black, so that transparent ones are kept;
        or '' for everywhere.
      shape: (H, W) of the images.

    Raises:
      UserError: for another word, or a picture that cannot be decoded, has another size, or
        selects nothing or everything.
    """
    height, width = shape
    redraw = np.zeros(shape, bool)
    regions: dict[str, Any] = {
        "": np.s_[:],
        "left": np.s_[:, : width // 2],
        "right": np.s_[:, width // 2 :],
        "top": np.s_[: height // 2],
        "bottom": np.s_[height // 2 :],
        "centre": np.s_[height // 4 : height - height // 4, width // 4 : width - width // 4],
    }
    if text in regions:
        redraw[regions[text]] = True
        return redraw
    if not os.path.lexists(text):
        raise UserError(f"--mask is {text!r}: give {', '.join(SIDES)}, or a picture")
    with naming(text), decoding():
        found = decode_image(read_regular(text, LARGEST), 1, background="black")
        found = pixels(found)[..., 0]
    if found.shape != shape:
        raise UserError(f"--mask {text} is {found.shape} and images are {shape}: give that size")
    redraw = found > 127
    if redraw.all() or not redraw.any():
        raise UserError(
            f"--mask {text} selects {'the whole image' if redraw.any() else 'nothing'}: make white "
            "what is to be redrawn, and black or transparent what is to be kept"
        )
    return redraw


def _read_images(
    path: str | None, config: ConfigDict, experiment: Experiment, num: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the first `num` images (N, H, W, C) uint8 at a path, and labels, if there are any."""
    shape = experiment.image_shape
    if not path:
        if experiment.autoencoder is not None:
            raise UserError("--images is wanted: the data of this run are latents")
        return _read(build_source(config, experiment), min(num, OWN))
    if os.path.isdir(path):
        folder = DataConfig("folder", path, crop=config.data.crop)
        return _read(open_source(folder, shape, num_classes=0), num)
    if has_suffix(path, IMAGES):
        with naming(path), decoding():
            image = decode_image(read_regular(path, LARGEST), shape[-1])
            return pixels(CROPS[config.data.crop](image, *shape[:2]))[None], None
    found = npz(path)
    check_fit(found, path, 0, "image", shape)
    return found.images[:num], None if found.labels is None else found.labels[:num]


def _read(source: Source, num: int) -> tuple[np.ndarray, np.ndarray | None]:
    examples = [source.read(index) for index in range(min(num, len(source)))]
    labels = [example.get("labels") for example in examples]
    known = None if labels[0] is None else np.array(labels, np.int32)
    return np.stack([example["images"] for example in examples]), known


def read_frames(path: str, config: ConfigDict) -> Arrays:
    """Read the last frames of clips, as many as the model continues: (N, frames, H, W, C) uint8.

    Args:
      path: a clip, a folder of frames, a folder of clips, or an .npz with 'images' or `arr_0`
        uint8 (N, T, H, W, C).

    Raises:
      UserError: for clips that cannot be read or are too short, or a model that continues none.
    """
    experiment = build(config)
    count = experiment.conditioning_frames
    if not count:
        raise UserError("--frames is given, and this run's model continues no frames")
    shape = (count, *experiment.sample_shape[1:])
    if path.endswith(".npz"):
        videos = npz(path, labelled=False).images
        if videos.shape[2:] != shape[1:] or videos.shape[1] < count:
            raise UserError(
                f"{path}: videos have shape {videos.shape[1:]}, and the model continues {count} "
                f"frames of {shape[1:]}"
            )
        return Arrays(videos[:, -count:], None)
    crop, stride = config.data.crop, config.data.frame_stride
    is_folder = os.path.isdir(path)
    if is_folder and not has_suffix(next(iter(visible(Path(path))[0]), ""), IMAGES):
        clips = open_source(DataConfig("clips", path, crop=crop, frame_stride=stride), shape, 0)
        every = [clips.read(index, at=LAST)["images"] for index in range(len(clips))]
        return Arrays(np.stack(every), None)
    if not is_folder and not os.path.isfile(path):
        raise UserError(f"--frames is {path!r}: there is no such file or folder")
    with naming(path):
        frames = decode_window(Path(path), shape[-1], count, stride, LAST)
        clip = [pixels(CROPS[crop](frame, *shape[1:3])) for frame in frames]
    return Arrays(np.stack(clip)[None], None)


def check_windows(windows: int, config: ConfigDict) -> None:
    """Raise `UserError` unless the model can draw so many windows of a video."""
    if windows > 1 and not build(config).conditioning_frames:
        raise UserError(f"--extend is {windows}: this run's model continues no frames")
