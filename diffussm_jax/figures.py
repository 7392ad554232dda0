"""Figures of a DiffuSSM: its kernels, their time scales, and how far a whole pass sees."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from diffusion_jax.diffusion import objectives
from diffusion_jax.experiment.inside import Drawn, Watched
from diffusion_jax.reporting import inside
from diffusion_jax.reporting.grids import evenly
from diffusion_jax.sampling.scan import Pass
from diffussm_jax.inspection import kernels, receptive_field, time_scales
from diffussm_jax.ssm import DT

SHOWN_LAYERS = 3
SHOWN_CHANNELS = 4
SHOWN_GAMMAS = (0.1, 0.4, 0.7, 1.0)


class Figures(Watched):
    """The figures of a DiffuSSM."""

    @property
    def pictures(self) -> tuple[Callable[[], Drawn], ...]:
        """The functions that make the pictures, in the order in which they are shown."""
        return (self.kernels, self.time_scales, self.receptive_field)

    def kernels(self) -> Drawn:
        """Draw the kernels of some channels of some layers."""
        model = self.experiment.denoiser
        layers = evenly(model.layers, SHOWN_LAYERS)
        order = np.argsort(self.params["blocks"]["ssm"]["forward_log_dt"], axis=1)
        chosen = evenly(model.dim, SHOWN_CHANNELS)
        shown = []
        for layer in layers:
            both = np.asarray(kernels(self.params, int(layer), self.geometry.num_tokens))
            shown.append(both[:, order[layer, chosen]].swapaxes(0, 1))
        numbers = ", ".join(str(layer + 1) for layer in layers)
        caption = (
            f"How strongly a token reads others in layers {numbers} of {model.layers}: to the left "
            "what the forward direction reads, earlier in raster order, to the right the backward "
            f"one. {len(chosen)} of {model.dim} channels, from the smallest to the largest step dt "
            "of the forward direction (blue, orange, green, red), each in parts of its largest "
            f"weight; skips are left out. A row of the image is {self.geometry.grid[1]} tokens, "
            f"all of it {self.geometry.num_tokens}."
        )
        return Drawn(
            "inside_kernels.png",
            "Learned kernels",
            caption,
            functools.partial(
                inside.draw_kernels,
                kernels=np.stack(shown),
                layer_names=[f"layer {layer + 1}" for layer in layers],
            ),
        )

    def time_scales(self) -> Drawn:
        """Draw quantiles of the time scales in each layer."""
        scales = np.asarray(time_scales(self.params))
        tokens = self.geometry.num_tokens
        fresh = (2 / DT[1], 2 / DT[0])
        caption = (
            "Tokens until a state has decayed to 1/e, 1 / |Re(dt A)|, of all channels and states "
            "of a layer: median, quartiles (thick) and 5 to 95% (thin). Grey: where training "
            f"starts, {fresh[0]:.0f} to {fresh[1]:.0f}. {np.mean(scales > tokens):.0%} of the "
            f"states take longer to decay than the {tokens} tokens of the image. All states count "
            "alike, however strongly they are read."
        )
        return Drawn(
            "inside_time_scales.png",
            "Time scales of the states",
            caption,
            functools.partial(
                inside.draw_time_scales,
                scales=scales,
                fresh=fresh,
                marks={"a row": self.geometry.grid[1], "the image": tokens},
            ),
        )

    def receptive_field(self) -> Drawn:
        """Draw what the middle token of the output depends on, at several noise levels."""
        side = self.geometry.patch_size
        top, left = (count // 2 * side for count in self.geometry.grid)
        place = slice(top, top + side), slice(left, left + side)

        def reach(params, condition, one: Pass) -> jax.Array:
            def output(x):
                made, arguments = self.experiment, (x, one.noise, condition, one.carry)
                found = objectives.denoise(made.denoiser, params, made.objective, *arguments)
                return found.output[..., : x.shape[-1]]  # without variances

            return receptive_field(output, one.x, jax.random.key(self.seed), *place)

        steps = self.near(*SHOWN_GAMMAS)
        fields = self.over_passes(reach)(self.at(steps))
        what = "pixels" if self.experiment.autoencoder is None else "latent pixels"
        outside = ", ".join(f"{1 - field[place].sum():.2%}" for field in fields)
        caption = (
            f"Squared gradient of the network's output ({self.experiment.objective.prediction}) at "
            f"the framed token with respect to the {what} of its input: mean over channels, "
            f"{len(self.indices)} samples and random directions of the output, as shares on a "
            f"logarithmic scale, at {len(steps)} steps of the reverse process. Outside of the "
            f"frame lie {outside} of it. A position of the network holds "
            f"{self.experiment.denoiser.expansion} tokens in raster order."
        )
        return Drawn(
            "inside_receptive_field.png",
            "What the middle of the output depends on",
            caption,
            functools.partial(
                inside.draw_fields,
                fields=fields,
                names=[self.name(step) for step in steps],
                box=(left, top, side, side),
            ),
        )
