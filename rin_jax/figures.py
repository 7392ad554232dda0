"""Figures of a RIN: what its latents read, whether that follows the image, how they move."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat

from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process
from diffusion_jax.experiment.inside import Drawn, Watched
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.inside import draw_curves, draw_maps
from diffusion_jax.sampling.scan import Pass
from rin_jax.inspection import (
    Inside,
    correlation,
    detail,
    drift,
    look_inside,
    read_maps,
    spread,
    statistics,
)

SHOWN_STEPS = 6
SHOWN_MAPS = 10  # to a row, images among them
SHOWN_LATENTS = 9  # the time and the class among them
EVEN_SHARE = "read attention, in multiples of an even share"
STEP = "reverse step, from noise to image"
WORDS = Path(__file__).with_suffix(".toml")  # titles and captions


class Figures(Watched):
    """The figures of a RIN."""

    @property
    def pictures(self) -> tuple[Callable[[], Drawn], ...]:
        """The functions that make the pictures, in the order in which they are shown."""
        return (self.attention, self.single_latents, self.adaptive, self.drift)

    @functools.cached_property
    def seen(self) -> Any:
        """What `watch` returns for all passes."""
        return self.watch(self.passes)

    @functools.cached_property
    def to_images(self) -> Callable[..., np.ndarray]:
        """The function x0 (B, ...) -> uint8 images; see `Experiment.to_images`."""
        return self.experiment.to_images(self.run.mesh)

    @functools.cached_property
    def blocks(self) -> list[str]:
        """The names of the blocks."""
        return [f"block {i + 1}" for i in range(len(self.experiment.denoiser.process_layers))]

    @functools.cached_property
    def watch(self) -> Callable[[Pass], Any]:
        """The function that looks into passes.

        It returns maps (T, blocks, B, N), spread of single latents (T, blocks, B), and latents
        before and after the blocks, (T, B, M, D).
        """

        def one(*arguments):
            found = self.look(*arguments)
            narrow = spread(found.read[..., : self.geometry.num_tokens]).mean(axis=-1)
            maps = read_maps(found.read, self.geometry.num_tokens)
            return maps, narrow, found.latents_before, found.latents

        return self.over_passes(one)

    def look(self, params: Any, condition: Condition, one: Pass) -> Inside:
        """Run one pass again, and return what it computes on its way."""
        made = self.experiment
        x_t = process.unit_variance(one.x) if made.objective.normalize_input else one.x
        return look_inside(made.denoiser, params, x_t, one.noise, condition, one.carry)

    def attention(self) -> Drawn:
        """Draw maps of the blocks over the x0 estimates, at several steps, for some samples."""
        to_images = self.to_images  # refused, if it is, before any compilation
        steps = self.spaced(SHOWN_STEPS)
        samples = min(len(self.indices), max(1, SHOWN_MAPS // (1 + len(self.blocks))))
        x0 = np.asarray(self.passes.x0)[steps][:, :samples]
        images = to_images(rearrange(x0, "t b ... -> (t b) ..."))
        maps = self.seen[0][steps][:, :, :samples]
        shown = dict(
            images=rearrange(images, "(t b) ... -> t b ...", b=samples),
            maps=rearrange(maps, "t k b (h w) -> t b k h w", h=self.geometry.grid[0]),
            row_names=[self.name(step) for step in steps],
            column_names=self.blocks,
            bar=EVEN_SHARE,
        )
        values = dict(samples=samples, tokens=self.geometry.num_tokens)
        return Drawn("attention", draw_maps, shown, WORDS, values)

    def single_latents(self) -> Drawn:
        """Draw maps of single latents over one x0 estimate, a row for each block."""
        (step,) = self.near(0.5)
        model = self.experiment.denoiser
        read = self.over_passes(self.look)(self.at(np.array([step]))).read[0]
        told = np.arange(model.learned_latents, model.num_latents)
        rows = np.append(evenly(model.learned_latents, SHOWN_LATENTS - 2), told[:2])
        maps = read[:, :1, rows, : self.geometry.num_tokens] * read.shape[-1]
        image = self.to_images(np.asarray(self.passes.x0)[step, :1])
        shown = dict(
            images=repeat(image, "one ... -> k one ...", k=len(self.blocks)),
            maps=rearrange(maps, "k b m (h w) -> k b m h w", h=self.geometry.grid[0]),
            row_names=self.blocks,
            column_names=[self.latent_name(row) for row in rows],
            bar=EVEN_SHARE,
        )
        values = dict(
            step=step + 1, steps=len(self.passes.x), shown=len(rows), latents=model.num_latents
        )
        return Drawn("latents", draw_maps, shown, WORDS, values)

    def latent_name(self, row: int) -> str:
        """Return the name of a latent: learned rows come first, then the time, then the class."""
        model = self.experiment.denoiser
        beyond = row - model.learned_latents
        if beyond < 0:
            return str(row + 1)
        return "time" if beyond == 0 and model.time_on == "latents" else "class"

    def adaptive(self) -> Drawn:
        """Draw how reading correlates with detail, of the own and of other images."""
        maps, narrow, _, _ = self.seen
        count = maps.shape[2]
        details = detail(jnp.asarray(self.passes.x0)[-1], self.geometry.patch[-1])
        pairs = np.asarray(correlation(jnp.asarray(maps), details))  # (T, blocks, map, image)
        own = np.diagonal(pairs, axis1=2, axis2=3)
        others = (pairs.sum(axis=3) - own) / max(count - 1, 1)
        lines, means = {}, []
        for i, block in enumerate(self.blocks):
            lines |= {f"{block}, own image": own[:, i], f"{block}, others'": others[:, i]}
            means.append(f"{block} {own[:, i].mean():.2f} against {others[:, i].mean():.2f}")
        panels = {
            "correlation with detail": lines,
            "part of the tokens read": {b: narrow[:, i] for i, b in enumerate(self.blocks)},
        }
        shown = dict(panels=panels, x=np.arange(1, len(maps) + 1), x_name=STEP)
        values = dict(samples=count, tokens=self.geometry.num_tokens, means="; ".join(means))
        return Drawn("adaptive", draw_curves, shown, WORDS, values)

    def drift(self) -> Drawn:
        """Draw how far the latents move from step to step, and in a pass, carried and not."""
        runs = {"carried": self.seen, "not carried": self.watch(self.trace(carry_decay=1.0))}
        between, angle, within, moved = {}, {}, {}, []
        for name, (_, _, *latents) in runs.items():
            before, after = map(jnp.asarray, latents)
            between[name], angle[name] = map(np.asarray, drift(after[:-1], after[1:]))
            within[name] = np.asarray(drift(before, after)[0])[1:]
            moved.append(
                f"{name} {between[name].mean():.3f} (standard deviation over samples "
                f"{between[name].mean(axis=0).std():.3f}) and {within[name].mean():.3f}"
            )
        panels = {
            "change since last step": between,
            "cosine with last step": angle,
            "change in one pass": within,
        }
        shown = dict(panels=panels, x=np.arange(2, len(self.passes.x) + 1), x_name=STEP)
        values = dict(samples=len(self.indices), moved=", ".join(moved))
        return Drawn("drift", draw_curves, shown, WORDS, values)

    def diagnostics(self) -> tuple[dict[str, Any], list[Drawn]]:
        """Measure the size of the latents along the reverse process, carried and not."""
        measure = self.over_passes(lambda *one: statistics(self.look(*one).latents_after))
        runs = {"carried": {}, "not carried": {"carry_decay": 1.0}}
        found = {way: measure(self.trace(**changes)) for way, changes in runs.items()}
        means = {
            way: {name: values.mean(axis=2).tolist() for name, values in each.items()}
            for way, each in found.items()
        }
        panels = {
            name: {
                f"{block}, {way}": each[name][:, i]
                for i, block in enumerate(self.blocks)
                for way, each in found.items()
            }
            for name in ("mean", "std", "norm", "max")
        }
        ends = (f"{way} {each['norm'][-1, -1].mean():.3g}" for way, each in found.items())
        shown = dict(panels=panels, x=np.arange(1, len(self.passes.x) + 1), x_name=STEP)
        values = dict(samples=len(self.indices), ends="; ".join(ends))
        return {"latents": means}, [Drawn("latent_size", draw_curves, shown, WORDS, values)]
