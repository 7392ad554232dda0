"""Rules between the attributes of a RIN, checked before anything is computed."""

import math
from typing import TYPE_CHECKING

from diffusion_jax.errors import UserError
from diffusion_jax.fields import check
from rin_jax.attention import check_form
from rin_jax.convolution import groups

if TYPE_CHECKING:
    from rin_jax.model import RIN

POSITIONS = ("learned", "sin_cos", "sin_cos_plus_learned")
SELF_CONDITIONING = ("none", "latent", "interface", "latent+interface")
TOKEN_PLACES = ("latents", "interface")


def check_network(model: "RIN") -> None:
    """Raise `UserError` for what would fail, or silently misbehave, inside the network."""
    check(model)
    check_form(model.attention, model.dtype, model.attention_dropout)
    taken = model.num_latents - model.learned_latents
    if model.learned_latents < 1:
        raise UserError(
            f"num_latents is {model.num_latents}, and time and class take {taken}: "
            f"it must be at least {taken + 1}"
        )
    if model.interface_positions != "learned" and model.interface_dim % 2:
        raise UserError(f"interface_dim is {model.interface_dim}: sin-cos codes need an even one")
    if "interface" in model.self_conditioning and not model.interface_mlp_ratio:
        raise UserError("interface_mlp_ratio is 0: interface self-conditioning needs its MLP")
    for name, width in (
        ("latent_heads", model.latent_dim),
        ("read_write_heads", min(model.latent_dim, model.interface_dim)),
        ("read_write_heads", model.condition_width or model.latent_dim),
    ):
        if (heads := getattr(model, name)) > width:
            raise UserError(f"{name} is {heads}, above the attention width {width}: use fewer")
    _check_tokens(model)
    if model.convolution:
        _check_convolution(model)


def _check_tokens(model: "RIN") -> None:
    """Raise `UserError` unless tokens that are read together have one width."""
    if model.condition_on == "time" and model.condition_tokens != 1:
        raise UserError(
            f"condition_on is 'time' and condition_tokens {model.condition_tokens}: only one joins "
            "the time's MLP; set condition_on to 'latents' or 'interface'"
        )
    place = model.condition_on if model.num_classes else None
    beside = [model.time_on, place].count("interface")
    if model.decoupled_read and (not beside or model.writable_condition):
        raise UserError(
            "decoupled_read is True, and no token is read beside the interface: set time_on or "
            "condition_on to 'interface', and writable_condition to False"
        )
    own_width = model.condition_dim not in (0, model.interface_dim)
    makes = model.time_on == "interface" or (place == "interface" and model.project_condition)
    if makes and own_width and not model.decoupled_read:
        raise UserError(
            f"condition_dim is {model.condition_dim} and interface_dim {model.interface_dim}: "
            "tokens that are read together have one width; set decoupled_read to True or "
            "condition_dim to 0"
        )
    # A token that is read alone may have any width.
    alone = "interface" if model.decoupled_read and beside == 1 else None
    if (width := model.width_on(model.time_on)) % 4 and model.time_on != alone:
        raise UserError(f"the time token has width {width} ({model.time_on}): use a multiple of 4")
    if place in TOKEN_PLACES and place != alone and not model.project_condition:
        together = place == "interface" and not model.decoupled_read
        wanted = model.interface_dim if together else model.width_on(place)
        if model.num_classes != wanted:
            raise UserError(
                f"project_condition is False and the condition {model.num_classes} wide, and its "
                f"place, {place}, {wanted}: set project_condition to True"
            )


def _check_convolution(model: "RIN") -> None:
    """Raise `UserError` where the interface cannot be convolved."""
    count, width = model.geometry.data_tokens, model.interface_dim
    if math.isqrt(count) ** 2 != count:
        raise UserError(
            f"convolution is {model.convolution}: it needs a square of tokens, and {count} are "
            "none; change the geometry or set convolution=0"
        )
    if width < 4 or width % groups(width):
        raise UserError(
            f"convolution is {model.convolution} and interface_dim {width}: its normalisation "
            "wants groups of equal size; use a multiple of 4 up to 128, above it of 32"
        )
