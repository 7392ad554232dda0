"""Pictures of a RIN: what its latents read, whether that follows the image, how they move."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.experiment.inside import Drawn, Watched, level_of
from diffusion_jax.reporting import inside
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.sampling.tracing import Passes
from rin_jax.inspection import Inside, correlation, detail, drift, look_inside, read_maps, spread

SHOWN_STEPS = 6
SHOWN_MAPS = 10  # to a row, images among them
SHOWN_LATENTS = 9  # the time and the class among them
EVEN_SHARE = "read attention, in multiples of an even share"
STEP = "reverse step, from noise to image"


class WatchedRIN(Watched):
    """See `Watched`."""

    @property
    def pictures(self) -> tuple[Callable[[], Drawn], ...]:
        """The functions that make the pictures, in the order in which they are shown."""
        return (self.attention, self.single_latents, self.adaptive, self.drift)

    @functools.cached_property
    def seen(self) -> Any:
        """`watch` of all passes."""
        return self.watch(self.passes)

    @functools.cached_property
    def to_images(self) -> Callable[..., np.ndarray]:
        """x0 (B, ...) -> uint8 images; see `Experiment.to_images`."""
        return self.experiment.to_images(self.mesh)

    @functools.cached_property
    def blocks(self) -> list[str]:
        """The names of the blocks."""
        return [f"block {i + 1}" for i in range(len(self.experiment.denoiser.process_layers))]

    @functools.cached_property
    def watch(self) -> Callable[[Passes], Any]:
        """passes -> maps (T, blocks, B, N), spread of single latents (T, blocks, B), and latents
        before and after, (T, B, M, D)."""

        def one(*arguments):
            found = self.look(*arguments)
            narrow = spread(found.read[..., : self.geometry.num_tokens]).mean(axis=-1)
            maps = read_maps(found.read, self.geometry.num_tokens)
            return maps, narrow, found.latents_before, found.latents

        return self.over_passes(one)

    def look(self, params: Any, condition: Condition, one: Passes) -> Inside:
        """`look_inside` of one pass, with what the network was given in it."""
        made = self.experiment
        x_t = process.unit_variance(one.x) if made.objective.normalize_input else one.x
        return look_inside(made.denoiser, params, x_t, level_of(one), condition, one.carry)

    def attention(self) -> Drawn:
        """Maps of the blocks over the x0 estimates, at several steps, for some samples."""
        to_images = self.to_images  # refused, if it is, before any compilation
        steps = self.spaced(SHOWN_STEPS)
        samples = min(len(self.indices), max(1, SHOWN_MAPS // (1 + len(self.blocks))))
        x0 = np.asarray(self.passes.x0)[steps][:, :samples]
        images = to_images(x0.reshape(-1, *x0.shape[2:]))
        maps = np.moveaxis(self.seen[0][steps][:, :, :samples], 1, 2)
        caption = (
            f"{samples} samples. Downwards the reverse process: at each step the x0 estimate, and "
            "over it what each block's latents read from the interface: softmax weights, mean over "
            f"heads and latents, of each of the {self.geometry.num_tokens} tokens. The more "
            "orange, the more is read there; 1 would be an even share."
        )
        return Drawn(
            "inside_attention.png",
            "What the latents read",
            caption,
            functools.partial(
                inside.draw_maps,
                images=images.reshape(*x0.shape[:2], *images.shape[1:]),
                maps=maps.reshape(*maps.shape[:3], *self.geometry.grid),
                row_names=[self.name(step) for step in steps],
                column_names=self.blocks,
                bar=EVEN_SHARE,
            ),
        )

    def single_latents(self) -> Drawn:
        """Maps of single latents over one x0 estimate, a row for each block."""
        (step,) = self.near(0.5)
        model = self.experiment.denoiser
        read = self.over_passes(self.look)(self.at(np.array([step]))).read[0]
        told = np.arange(model.learned_latents, model.num_latents)
        rows = np.append(evenly(model.learned_latents, SHOWN_LATENTS - 2), told[:2])
        maps = read[:, :1, rows, : self.geometry.num_tokens] * read.shape[-1]
        image = self.to_images(np.asarray(self.passes.x0)[step, :1])
        count = len(self.blocks)
        caption = (
            f"One sample at step {step + 1} of {len(self.passes.x)}: a row for each block, with "
            f"the x0 estimate and what single latents read, mean over the heads. {len(rows)} of "
            f"all {model.num_latents} latents; numbered ones begin as learned rows, the others "
            "as the time and the class."
        )
        return Drawn(
            "inside_latents.png",
            "What single latents read",
            caption,
            functools.partial(
                inside.draw_maps,
                images=np.broadcast_to(image[None], (count, *image.shape)),
                maps=maps.reshape(*maps.shape[:3], *self.geometry.grid),
                row_names=self.blocks,
                column_names=[self.latent_name(row) for row in rows],
                bar=EVEN_SHARE,
            ),
        )

    def latent_name(self, row: int) -> str:
        """Learned rows come first, then the time, then the class."""
        model = self.experiment.denoiser
        beyond = row - model.learned_latents
        if beyond < 0:
            return str(row + 1)
        return "time" if beyond == 0 and model.time_on == "latents" else "class"

    def adaptive(self) -> Drawn:
        """Correlation of reading with detail, of the own and of other images, and its spread."""
        maps, narrow, _, _ = self.seen
        count = maps.shape[2]
        details = detail(jnp.asarray(self.passes.x0)[-1], self.geometry.patch_size)
        pairs = np.asarray(correlation(jnp.asarray(maps), details))  # (T, blocks, map, image)
        own = np.diagonal(pairs, axis1=2, axis2=3)
        others = (pairs.sum(axis=3) - own) / max(count - 1, 1)
        lines = {}
        for i, block in enumerate(self.blocks):
            lines |= {f"{block}, own image": own[:, i], f"{block}, others'": others[:, i]}
        means = "; ".join(
            f"{block} {own[:, i].mean():.2f} against {others[:, i].mean():.2f}"
            for i, block in enumerate(self.blocks)
        )
        caption = (
            f"Mean and standard error over {count} samples. Above: correlation over the tokens of "
            "what a block's latents read with the detail of the sample that comes out at the end "
            "(mean length of the brightness gradient in a token's patch). Dashed: with the detail "
            "of the other samples. A map that always looks at the same places has both alike; how "
            f"far they are apart is what depends on the image. Mean over the steps: {means}. "
            f"Below: of the {self.geometry.num_tokens} tokens the part that a single latent reads, "
            "exp(entropy) of its weights over their number; 1 is to read all alike."
        )
        return Drawn(
            "inside_adaptive.png",
            "Does reading follow the image?",
            caption,
            functools.partial(
                inside.draw_curves,
                panels={
                    "correlation with detail": lines,
                    "part of the tokens read": {
                        block: narrow[:, i] for i, block in enumerate(self.blocks)
                    },
                },
                x=np.arange(1, len(maps) + 1),
                x_name=STEP,
            ),
        )

    def drift(self) -> Drawn:
        """How far the latents move from step to step, and in a pass, carried and not."""
        runs = {"carried": self.seen, "not carried": self.watch(self.trace(carry_decay=1.0))}
        between, angle, within = {}, {}, {}
        for name, (_, _, *latents) in runs.items():
            before, after = map(jnp.asarray, latents)
            between[name], angle[name] = map(np.asarray, drift(after[:-1], after[1:]))
            within[name] = np.asarray(drift(before, after)[0])[1:]
        moved = ", ".join(
            f"{name} {between[name].mean():.3f} (standard deviation over samples "
            f"{between[name].mean(axis=0).std():.3f}) and {within[name].mean():.3f}"
            for name in runs
        )
        steps = len(self.passes.x)
        caption = (
            "z is all latents after the last block, carried as the run samples, and not carried, "
            "from the same noise. Above: |z - z of the step before| / |z|; in the middle the "
            "cosine of the two; below: |z - z before the first block| / |z|, how far the "
            f"blocks of one pass go. Mean and standard error over {len(self.indices)} samples. The "
            f"first and the last, mean over the steps: {moved}."
        )
        return Drawn(
            "inside_drift.png",
            "How far the latents move",
            caption,
            functools.partial(
                inside.draw_curves,
                panels={
                    "change since last step": between,
                    "cosine with last step": angle,
                    "change in one pass": within,
                },
                x=np.arange(2, steps + 1),
                x_name=STEP,
            ),
        )
