"""Figures of a DiffuSSM: its kernels, their time scales, and how far a whole pass sees."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from einops import rearrange

from diffusion_jax.diffusion import objectives
from diffusion_jax.experiment.inside import Drawn, Watched
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.reporting.inside import draw_fields, draw_kernels, draw_time_scales
from diffusion_jax.sampling.scan import Pass
from diffussm_jax.inspection import kernels, receptive_field, time_scales
from diffussm_jax.ssm import DT

SHOWN_LAYERS = 3
SHOWN_CHANNELS = 4
SHOWN_GAMMAS = (0.1, 0.4, 0.7, 1.0)
WORDS = Path(__file__).with_suffix(".toml")  # titles and captions


class Figures(Watched):
    """The figures of a DiffuSSM."""

    @property
    def pictures(self) -> tuple[Callable[[], Drawn], ...]:
        """The functions that make the pictures, in the order in which they are shown."""
        return (self.kernels, self.time_scales, self.receptive_field)

    def kernels(self) -> Drawn:
        """Draw the kernels of some channels of some layers."""
        model, params = self.experiment.denoiser, self.run.params
        layers = evenly(model.layers, SHOWN_LAYERS)
        order = np.argsort(params["blocks"]["ssm"]["forward_log_dt"], axis=1)
        chosen = evenly(model.dim, SHOWN_CHANNELS)
        shown = []
        for layer in layers:
            both = np.asarray(kernels(params, int(layer), self.geometry.num_tokens))
            shown.append(rearrange(both[:, order[layer, chosen]], "way d l -> d way l"))
        names = [f"layer {layer + 1}" for layer in layers]
        values = dict(
            layers=", ".join(str(layer + 1) for layer in layers),
            depth=model.layers,
            channels=len(chosen),
            dim=model.dim,
            row=self.geometry.grid[1],
            tokens=self.geometry.num_tokens,
        )
        arguments = dict(kernels=np.stack(shown), layer_names=names)
        return Drawn("kernels", draw_kernels, arguments, WORDS, values)

    def time_scales(self) -> Drawn:
        """Draw quantiles of the time scales in each layer."""
        scales, tokens = np.asarray(time_scales(self.run.params)), self.geometry.num_tokens
        fresh = (2 / DT[1], 2 / DT[0])
        marks = {"a row": self.geometry.grid[1], "the image": tokens}
        arguments = dict(scales=scales, fresh=fresh, marks=marks)
        longer = np.mean(scales > tokens)
        values = dict(low=fresh[0], high=fresh[1], longer=longer, tokens=tokens)
        return Drawn("time_scales", draw_time_scales, arguments, WORDS, values)

    def receptive_field(self) -> Drawn:
        """Draw what the middle token of the output depends on, at several noise levels."""
        made, side = self.experiment, self.geometry.patch[-1]
        top, left = (count // 2 * side for count in self.geometry.grid)
        place = slice(top, top + side), slice(left, left + side)

        def reach(params, condition, one: Pass) -> jax.Array:
            def output(x):
                arguments = (x, one.noise, condition, one.carry)
                found = objectives.denoise(made.denoiser, params, made.objective, *arguments)
                return found.output[..., : x.shape[-1]]  # without variances

            return receptive_field(output, one.x, jax.random.key(self.run.seed), *place)

        steps = self.near(*SHOWN_GAMMAS)
        fields = self.over_passes(reach)(self.at(steps))
        names = [self.name(step) for step in steps]
        values = dict(
            prediction=made.objective.prediction,
            pixels="pixels" if made.autoencoder is None else "latent pixels",
            samples=len(self.indices),
            steps=len(steps),
            outside=", ".join(f"{1 - field[place].sum():.2%}" for field in fields),
            expansion=made.denoiser.expansion,
        )
        arguments = dict(fields=fields, names=names, box=(left, top, side, side))
        return Drawn("receptive_field", draw_fields, arguments, WORDS, values)
