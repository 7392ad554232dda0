"""Draw samples from the EMA weights of a run, or from an export; a stopped command continues.

    python -m launch.sample --pretrained                # digits, before any training
    python -m launch.sample --workdir=runs/digits --num=100
    python -m launch.sample --workdir=runs/digits --num=20 --labels=7 --sampler=ddim --steps=50
    python -m launch.sample --workdir=runs/digits --num=100 --nocarry   # latents not carried
    python -m launch.sample --init_from=exports/digits --num=100        # weights of launch.export

Writes samples.npz (arr_0 uint8 NHWC; labels, also as arr_1) and grid.png; videos also as
samples.gif and, with PyAV, samples.mp4. A sample depends on --seed and its index alone, not on the
batch size or the number of devices.

One picture instead, written to pictures/ in the run directory, or in --out:

    python -m launch.sample --pretrained --show=classes       # a column for each class
    python -m launch.sample --pretrained --show=sweep         # the same, each row from one noise
    python -m launch.sample --pretrained --show=interpolate   # from one sample's noise to another's
    python -m launch.sample --pretrained --show=trajectory    # x_t and the estimate of x_0, by step
    python -m launch.sample --pretrained --show=guidance      # one noise, the guidance growing
    python -m launch.sample --pretrained --show=steps         # quality by sampler and steps

Samples that begin with images, of which a part is inpainted (RePaint) or all is redrawn from a
noise level (SDEdit), or with clips that a video model continues, window after window:

    python -m launch.sample --workdir=runs/mine --images=photos --mask=centre
    python -m launch.sample --workdir=runs/mine --images=cat.png --mask=cat_mask.png --num=8
    python -m launch.sample --pretrained --noise_level=0.6 --labels=3     # ten real digits, as 3
    python -m launch.sample --workdir=runs/clips --frames=clip.mp4 --extend=4 --num=8
"""

from launch.common import arguments, cli, distributed, options
from launch.pretrained import unpack_pretrained

from pathlib import Path
from typing import Any

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import given
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.show import KINDS, show, show_edit

NUM = 64
GIVEN = ("images", "mask", "noise_level", "frames", "extend")  # what samples may begin with


def main(values: flags.FlagValues) -> None:
    """Sample, or show, as the options say."""
    distributed.initialize(values)
    if values.pretrained and values.init_from:
        raise UserError("--pretrained is a run, and --init_from an export: give one of them")
    if values.pretrained:
        folder = unpack_pretrained(Path(values.workdir or "runs/pretrained"))
        values.workdir = str(folder)  # type: ignore[assignment]  # absl's stub is generic
    job, command = options.sampling_job(values), cli.command()
    if values.show:
        if beginnings := [name for name in GIVEN if values[name].present]:
            raise UserError(f"--show draws from noise alone: leave out --{beginnings[0]}")
        request = job.request | {"num": values.num if values["num"].present else None}
        path = show(
            job.config,
            job.folder,
            values.show,
            changes=options.sampling_changes(values),
            out=job.out,
            checkpoint=job.checkpoint,
            command=command,
            **request,
        )
        say(f"Written: {path}")
        return
    given.check_windows(values.extend, job.config)
    names = ("images", "mask", "noise_level", "resample")
    about: dict[str, Any] = {name: values[name].value for name in names}
    edit = given.read_edit(job.config, values.num, **about)
    frames = given.read_frames(values.frames, job.config) if values.frames else None
    begun = dict(edit=edit, frames=frames, windows=values.extend)
    out = sample(job.config, job.folder, job.out, job.request, checkpoint=job.checkpoint, **begun)
    files = ["samples.npz", "grid.png", "samples.gif", "samples.mp4"]
    written = [str(out / name) for name in files if (out / name).exists()]
    if edit:
        written.append(str(show_edit(edit, job.folder, out, read_request(out)["step"], command)))
    say(f"{values.num} samples: {', '.join(written)}")


if __name__ == "__main__":
    options.define_samples(NUM)
    flags.DEFINE_bool("pretrained", False, "Sample the run of digits that comes with this package.")
    arguments.choice("show", None, "Draw this picture instead; --num are its rows.", KINDS)
    about = "Images to begin with: .npz, file or folder; else ten of the run's own data."
    arguments.path("images", None, about)
    sides = ", ".join(given.SIDES)
    about = f"Inpaint this part of them: {sides}, or white in a picture on black or clear."
    flags.DEFINE_string("mask", "", about)
    about = "Redraw them from this time: 0.1 a little, 1 all."
    arguments.number("noise_level", None, about, above=0, at_most=1)
    arguments.count("resample", 10, "Passes of inpainting; more fit the kept part better.")
    arguments.path("frames", None, "Clips for a video model to continue: .npz, file, folder.")
    arguments.count("extend", 1, "Windows to draw of a video, each continuing the one before.")
    cli.run(lambda: main(flags.FLAGS), __doc__)
