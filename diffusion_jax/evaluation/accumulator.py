"""All metrics of one set of images, from features that come in batches."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.archives import load_archive, save_archive
from diffusion_jax.evaluation.checks import check_enough, check_features
from diffusion_jax.evaluation.frechet import Moments, frechet_distance
from diffusion_jax.evaluation.inception_score import InceptionScore
from diffusion_jax.evaluation.kid import SUBSET_SIZE, kid
from diffusion_jax.evaluation.precision_recall import precision_recall
from diffusion_jax.evaluation.references import Extraction, Reference, check_comparable
from diffusion_jax.evaluation.subset import Subset
from diffusion_jax.storage.schemas import ACCUMULATOR

if TYPE_CHECKING:
    from diffusion_jax.evaluation.inception import Features

KIND = "an evaluation begun"
KEEP_SAMPLES, KEEP_REFERENCE = 50_000, 10_000  # guided-diffusion's, for precision and recall


@dataclasses.dataclass
class _Sums:
    """What an accumulator holds from its first batch on, which tells the widths."""

    pool: Moments
    spatial: Moments
    score: InceptionScore | None
    subset: Subset

    @classmethod
    def begin(cls, pool: int, spatial: int, classes: int | None, keep: int) -> "_Sums":
        score = None if classes is None else InceptionScore(classes)
        return cls(Moments(pool), Moments(spatial), score, Subset(pool, keep))


class Accumulator:
    """Statistics of the features so far. Memory does not grow with the number of images.

    It holds two covariances (67 MB for Inception's) and the pool features of at most `keep` images
    in float32 (410 MB for 50,000); see `Subset`.

    Attributes:
      extraction: how the features are made.
      keep: number of images whose pool features are held.
    """

    def __init__(self, extraction: Extraction, keep: int = KEEP_SAMPLES):
        self.extraction, self.keep = extraction, keep
        self._sums: _Sums | None = None

    @property
    def count(self) -> int:
        """Number of images so far, from which an evaluation continues."""
        return self._sums.pool.count if self._sums else 0

    @property
    def held(self) -> np.ndarray:
        """(min(count, keep), d) float32 pool features; those of all images as long as they fit."""
        return self._enough("images", 1).subset.features

    def update(self, features: "Features") -> None:
        """Add a batch: pool (B, d), spatial (B, s), and logits (B, classes) or None.

        Raises:
          UserError: for NaN or infinity, or other shapes than before; nothing is added then.
        """
        pool, spatial = (np.asarray(part, np.float32) for part in (features.pool, features.spatial))
        logits = features.logits
        if self._sums is None:
            classes = None if logits is None else logits.shape[-1]
            self._sums = _Sums.begin(pool.shape[-1], spatial.shape[-1], classes, self.keep)
        sums = self._sums
        where = f"of the images from {self.count} on"
        check_features(f"pool features {where}", pool, len(sums.pool.mean))
        check_features(f"spatial features {where}", spatial, len(sums.spatial.mean))
        if (logits is None) != (sums.score is None):
            raise UserError("some images have logits and some have none: use the same weights")
        if logits is not None and sums.score is not None:
            sums.score.update(np.asarray(logits))
        sums.pool.update(pool)
        sums.spatial.update(spatial)
        sums.subset.update(pool)

    def _enough(self, what: str, fewest: int = 2) -> _Sums:
        """Return the sums. Raises `UserError` unless they are of `fewest` images."""
        check_enough(what, self.count, fewest)
        assert self._sums is not None  # since there are images
        return self._sums

    def reference(self, fingerprint: str, crop: str | None) -> Reference:
        """Return the statistics of these images, for others to be compared with.

        Raises:
          UserError: for fewer than 2 images.
        """
        sums = self._enough("reference")
        gaussians = sums.pool.gaussian(), sums.spatial.gaussian()
        return Reference(*gaussians, self.held, self.extraction, self.count, fingerprint, crop)

    def result(self, reference: Reference) -> tuple[dict[str, float], dict[str, int]]:
        """Return (metrics, counts) of these images compared with `reference`.

        What cannot be computed is left out: precision, recall and KID where the reference has no
        features; the Inception Score of features without logits; KID of fewer images than its
        subsets' 1000 on either side.

        Returns:
          metrics: those of 'fid', 'sfid', 'inception_score', 'precision', 'recall', 'kid' and
            'kid_std' that can be had.
          counts: 'samples' and, where it is known, 'reference': images behind FID, sFID and IS;
            'samples_held' and 'reference_held': behind precision, recall and KID.

        Raises:
          UserError: for fewer than 2 images, or a reference that is known to be made differently.
        """
        check_comparable(self.extraction, reference.extraction)
        sums = self._enough("samples")
        metrics = {
            "fid": frechet_distance(sums.pool.gaussian(), reference.pool),
            "sfid": frechet_distance(sums.spatial.gaussian(), reference.spatial),
        }
        counts = {"samples": self.count}
        if reference.num_images is not None:
            counts["reference"] = reference.num_images
        if sums.score is not None:
            metrics["inception_score"] = sums.score.result()
        if reference.features is not None:
            pair = self.held, reference.features
            counts |= {"samples_held": len(pair[0]), "reference_held": len(pair[1])}
            metrics |= precision_recall(*pair)._asdict()
            if min(map(len, pair)) >= SUBSET_SIZE:
                metrics["kid"], metrics["kid_std"] = kid(*pair)
        return metrics, counts

    def save(self, path: Path) -> None:
        """Write the state, for `load_accumulator` to continue from.

        Raises:
          UserError: if it cannot be written.
        """
        about: dict[str, Any] = {
            "extraction": self.extraction,
            "keep": self.keep,
            "count": self.count,
        }
        arrays = {}
        if (sums := self._sums) and self.count:
            arrays["held"] = self.held
            for name, moments in (("pool", sums.pool), ("spatial", sums.spatial)):
                arrays |= {f"{name}/mean": moments.mean, f"{name}/scatter": moments.scatter}
            if sums.score is not None:
                about["begun"] = sums.score.begun
                arrays |= {"sums": sums.score.sums, "scores": np.array(sums.score.scores)}
        save_archive(path, KIND, about, arrays)


def load_accumulator(path: Path) -> Accumulator:
    """Read what `Accumulator.save` wrote.

    Raises:
      UserError: for any other file, or one that lacks an array or has one of another shape.
    """
    about, arrays = load_archive(path, KIND, ACCUMULATOR)
    try:
        made = Accumulator(Extraction.from_json(about["extraction"]), about["keep"])
        if not about["count"]:
            return made
        classes = arrays["sums"].shape[1] if "sums" in arrays else None
        widths = len(arrays["pool/mean"]), len(arrays["spatial/mean"])
        made._sums = sums = _Sums.begin(*widths, classes, made.keep)
        for name, moments in (("pool", sums.pool), ("spatial", sums.spatial)):
            moments.count = about["count"]
            moments.mean, moments.scatter = arrays[f"{name}/mean"], arrays[f"{name}/scatter"]
        sums.subset.restore(arrays["held"], about["count"])
        if sums.score is not None:
            sums.score.sums, sums.score.begun = arrays["sums"], about["begun"]
            sums.score.scores = arrays["scores"].tolist()
        return made
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): {ACCUMULATOR.advice}") from error
