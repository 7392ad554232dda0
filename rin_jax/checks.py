"""What of a network's attributes cannot work, found before anything is computed."""

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
    """Raises `UserError` for what would fail, or silently misbehave, inside the network."""
    check(model)
    check_form(model.attention, model.dtype, model.attention_dropout)
    if model.learned_latents < 1:
        taken = model.num_latents - model.learned_latents
        raise UserError(
            f"num_latents is {model.num_latents}, and time and class take {taken}: "
            f"it must be at least {taken + 1}"
        )
    if model.interface_positions != "learned" and model.interface_dim % 2:
        raise UserError(f"interface_dim is {model.interface_dim}: sin-cos codes need an even one")
    if "interface" in model.self_conditioning and not model.interface_mlp_ratio:
        raise UserError(
            "interface_mlp_ratio is 0: self-conditioning on the interface needs its MLP"
        )
    _check_tokens(model)
    _check_heads(model)
    if model.convolution:
        _check_convolution(model)


def _check_tokens(model: "RIN") -> None:
    """Raises `UserError` unless the tokens of time and condition fit what they are put beside."""
    if model.condition_on == "time" and model.condition_tokens != 1:
        raise UserError(
            f"condition_on is 'time' and condition_tokens {model.condition_tokens}: only one joins "
            "the time's MLP; set condition_on to 'latents' or 'interface'"
        )
    widths = {("time", model.time_on): model.time_width}
    if model.num_classes and model.condition_on != "time":
        projected = model.width_on(model.condition_on)
        width = projected if model.project_condition else model.num_classes
        widths["condition", model.condition_on] = width
    beside = [name for name, place in widths if place == "interface"]
    if model.decoupled_read and (not beside or model.writable_condition):
        raise UserError(
            "decoupled_read is True, and no token is read beside the interface: set time_on or "
            "condition_on to 'interface', and writable_condition to False"
        )
    for (name, place), width in widths.items():
        if place == "latents":
            wanted = model.latent_dim
        elif not model.decoupled_read:
            wanted = model.interface_dim
        else:  # Tokens that are read alone need no width but one another's.
            wanted = model.width_on(place) if len(beside) > 1 else width
        if width == wanted:
            continue
        if name == "time" and width != model.width_on(place):
            raise UserError(
                f"the time token has width {model.width_on(place)} ({place}): use a multiple of 4"
            )
        if name == "condition" and not model.project_condition:
            raise UserError(
                f"project_condition is False and the condition {width} wide, and its place, "
                f"{place}, {wanted}: set project_condition to True"
            )
        raise UserError(
            f"condition_dim is {width} and interface_dim {wanted}: tokens that are read together "
            "have one width; set decoupled_read to True or condition_dim to 0"
        )


def _check_heads(model: "RIN") -> None:
    """Raises `UserError` where an attention has more heads than channels."""
    for name, width in (
        ("latent_heads", model.latent_dim),
        ("read_write_heads", min(model.latent_dim, model.interface_dim)),
        ("read_write_heads", model.condition_width or model.latent_dim),
    ):
        if (heads := getattr(model, name)) > width:
            raise UserError(
                f"{name} is {heads}, above the attention width {width}: use fewer heads"
            )


def _check_convolution(model: "RIN") -> None:
    """Raises `UserError` where the interface cannot be convolved."""
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
