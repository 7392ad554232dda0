"""Draws samples from the EMA weights of a run, or from an export; a stopped command continues.

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

Samples that begin with something given: images of which a part is drawn anew (RePaint), or all
from a noise level on (SDEdit), and clips that a video model continues, window after window:

    python -m launch.sample --workdir=runs/mine --images=photos --mask=centre
    python -m launch.sample --workdir=runs/mine --images=cat.png --mask=cat_mask.png --num=8
    python -m launch.sample --pretrained --noise_level=0.6 --labels=3     # ten real digits, as 3
    python -m launch.sample --workdir=runs/clips --frames=clip.mp4 --extend=4 --num=8
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import given
from diffusion_jax.experiment.given import read_edit, read_frames
from diffusion_jax.experiment.sample_files import read_request
from diffusion_jax.experiment.samples import sample
from diffusion_jax.experiment.show import KINDS, show, show_edit
from diffusion_jax.experiment.weights import chosen_checkpoint, opened_folder
from diffusion_jax.experiment.workdir import read_workdir
from launch.common import arguments, cli, distributed
from launch.common.options import define_sampling, override
from launch.pretrained import unpack_pretrained

NUM = 64


def from_flags(workdir: Path, config: ConfigDict, options: flags.FlagValues, **begun) -> Path:
    """`sample` of what the flags ask for; `begun` are its edit, frames and windows."""
    request = {name: options[name].value for name in ("num", "labels", "seed", "batch_size")}
    out = Path(options.out) if options.out else None
    checkpoint = chosen_checkpoint(options)
    return sample(config, workdir, out, request, checkpoint=checkpoint, **begun)


def main(options: flags.FlagValues) -> None:
    """Samples, or shows, as the flags say."""
    distributed.initialize(options)
    if options.pretrained and options.init_from:
        raise UserError("--pretrained is a run, and --init_from an export: give one of them")
    if options.pretrained:
        workdir = unpack_pretrained(Path(options.workdir or "runs/pretrained"))
    else:
        workdir = opened_folder(options)
    config = override(read_workdir(workdir), options)
    if options.show:
        path = show(config, workdir, options)
        say(f"Written: {path}")
        return
    given.check_windows(options.extend, config)
    edit = read_edit(config, options.num, options)
    frames = read_frames(options.frames, config) if options.frames else None
    begun = dict(edit=edit, frames=frames, windows=options.extend)
    out = from_flags(workdir, config, options, **begun)
    files = ["samples.npz", "grid.png", "samples.gif", "samples.mp4"]
    written = [str(out / name) for name in files if (out / name).exists()]
    if edit:
        written.append(str(show_edit(edit, workdir, out, read_request(out)["step"])))
    say(f"{options.num} samples: {', '.join(written)}")


if __name__ == "__main__":
    define_sampling(num=NUM)
    flags.DEFINE_bool("pretrained", False, "Sample the run of digits that comes with this package.")
    arguments.choice("show", None, "Draw this picture instead; --num are its rows.", KINDS)
    given.define_flags()
    for module in (distributed, given):
        flags.adopt_module_key_flags(module)  # for --help
    cli.run(lambda: main(flags.FLAGS), __doc__)
