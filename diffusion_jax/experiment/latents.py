"""Latents: the data, the config of a run, and the autoencoder must agree on their scaling.

A run's config holds the scaling, so that its samples, and those of its exports, are decoded as they
were trained; () is Stable Diffusion's.
"""

from ml_collections import ConfigDict

from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.autoencoder.weights import Pretrained, assumed, load_safetensors
from diffusion_jax.console import say
from diffusion_jax.errors import UserError


def load_autoencoder(path: str) -> Pretrained:
    """Return the autoencoder at a path, and say which of its settings are assumed.

    Raises:
      UserError: see `load_safetensors`.
    """
    if note := assumed(path):
        say(note)
    return load_safetensors(path)


def load_decoder(path: str, channels: int, scaling: Scaling) -> Pretrained:
    """Return the autoencoder at a path, checked against the latents that it is to decode.

    Raises:
      UserError: if no path is given, the weights cannot be read, or they do not fit.
    """
    if not path:
        raise UserError(
            "autoencoder.weights is empty, and samples are latents: give the folder or the "
            "safetensors file of the autoencoder that made the data (in training, or set "
            "train.grid_every=0)"
        )
    pretrained = load_autoencoder(path)
    found = pretrained.model
    if found.latent_channels != channels:
        raise UserError(
            f"{path} has {found.latent_channels} latent channels, and model.geometry.channels is "
            f"{channels}: give the autoencoder that made the data"
        )
    if found.scaling != scaling:
        raise UserError(
            f"{path} has {found.scaling}, and the latents of this run have {scaling}: give the "
            "autoencoder that made the data, with its config.json"
        )
    return pretrained


def scaled_as_data(config: ConfigDict) -> ConfigDict:
    """Return the config with the scaling that is recorded with its data, if it gives none itself.

    Raises:
      UserError: for data that cannot be opened.
    """
    is_set = config.autoencoder.scaling or not (config.data.path and config.data.name == "tfds")
    if config.autoencoder.name == "none" or is_set:
        return config
    from diffusion_jax.data.prepared import find_directory, read_manifest, recorded_scaling

    directory = find_directory(config.data.path)
    recorded = recorded_scaling(directory, read_manifest(directory))
    if recorded in (None, STABLE_DIFFUSION):
        return config
    config = config.copy_and_resolve_references()
    config.autoencoder.scaling = tuple(recorded)
    return config


def check_data(where: str, recorded: Scaling | None, scaling: Scaling) -> None:
    """Raise `UserError` for latents that were recorded with another scaling than a run's."""
    if recorded not in (None, scaling):
        raise UserError(
            f"{where}: these latents have {recorded}, and this run's have {scaling}: give the "
            "run's own data, or leave --config.autoencoder.scaling out in a new run"
        )
