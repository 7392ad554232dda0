"""Writes the weights of a run to a folder that others can read, in safetensors.

    python -m launch.export --workdir=runs/digits --out=exports/digits
    python -m launch.export --workdir=runs/digits --step=2000 --weights=params --out=exports/raw
    python -m launch.export --workdir=runs/xl --dtype=bfloat16 --shard_size=512MiB --out=exports/xl

The folder holds the config, what the weights are and how they were made (provenance.json), and
shards in Hugging Face's convention. launch.train starts from it, and launch.sample, evaluate and
inspect use it, all by --init_from=exports/digits. float32 is exact; bfloat16 takes half the space,
and leaves S4D's parameters in float32.

--layout=official names and cuts the tensors of RIN as its official code does. The weights of that
code, an .npz or .safetensors of its variables by name, become such a folder by

    python -m launch.export --official=weights.npz --config=rin/cifar10 --out=exports/official

with --step, their step of training, where it is known.
"""

from launch.common import arguments, cli, options

from pathlib import Path

from absl import flags

from diffusion_jax.console import say
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import exporting
from diffusion_jax.experiment.exports import DTYPES, check_new
from diffusion_jax.experiment.weights import LAYOUTS
from diffusion_jax.storage.locks import lock_path


def main(given: flags.FlagValues) -> None:
    """Export the weights that the options name."""
    if bool(given.workdir) == bool(given.official):
        raise UserError(
            "give either --workdir, a run of launch.train, or --official, weights of that code"
        )
    out = Path(given.out)
    with lock_path(out):  # before the work
        check_new(out)
        found = find(given)
        exporting.export(
            found, out, given.layout, given.dtype, given.shard_size, command=cli.command()
        )
    files = sorted(out.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    say(f"Written: {out}, {size / 2**20:,.1f} MiB in {len(files)} shard(s)")


def find(given: flags.FlagValues) -> exporting.Found:
    """Return the weights that the options name.

    Raises:
      UserError: for options that do not go together, or weights that cannot be read.
    """
    if given.workdir:
        if given.config:
            raise UserError("--config goes with --official: a run has its own")
        checkpoint = options.chosen_checkpoint(given)
        return exporting.of_run(Path(given.workdir), given.weights, checkpoint)
    if not given.config:
        raise UserError("--official wants --config, that of the same network")
    for name in ("weights", "best"):
        if given[name].present:
            raise UserError(f"--{name} chooses weights of a run: leave it out with --official")
    path = Path(given.official)
    return exporting.of_official(path, given.config, cli.config_name(), given.step)


if __name__ == "__main__":
    arguments.folder("workdir", None, "Run directory of launch.train.")
    arguments.file("official", None, "Weights of the official code of RIN, with --config.")
    cli.define_config(required=False)
    arguments.folder("out", None, "Folder to write; must not be there.", required=True)
    arguments.choice(
        "weights", "ema", "The moving average, or the raw parameters.", exporting.WEIGHTS
    )
    arguments.choice("dtype", "float32", "Of the tensors.", DTYPES)
    arguments.choice("layout", "ours", "Names of the tensors.", LAYOUTS)
    arguments.size("shard_size", "2GiB", "Size of a file at most, as 512MiB.")
    options.define_checkpoint()
    cli.run(lambda: main(flags.FLAGS), __doc__)
