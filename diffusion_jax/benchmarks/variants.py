"""Configs that differ in one field, to be compared."""

from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.errors import UserError
from diffusion_jax.experiment.workdir import flatten


def variants(config: ConfigDict, vary: str | None) -> dict[str, ConfigDict]:
    """Return a config for each value of a field.

    Args:
      vary: the field and its values, as 'model.remat=none,full'; None for the config as it is.

    Returns:
      {'none': config, 'full': config}, or {'': config}.

    Raises:
      UserError: if `vary` is not so written, or the config has no such field.
    """
    if vary is None:
        return {"": config}
    name, equals, values = vary.partition("=")
    fields = flatten(config.to_dict())
    if not equals or name not in fields:
        raise UserError(f"--vary is {vary!r}: give a field of the config, as model.remat=none,full")
    made = {}
    for value in values.split(","):
        made[value] = config.copy_and_resolve_references()
        made[value].update_from_flattened_dict({name: _parsed(name, value, type(fields[name]))})
    return made


def _parsed(name: str, value: str, kind: type) -> Any:
    """`value` as the type of the field."""
    if kind is bool and value in ("True", "False"):
        return value == "True"
    try:
        if kind in (int, float, str):
            return kind(value)
    except ValueError:
        pass
    raise UserError(f"--vary has {value!r}, which is no {kind.__name__}, as {name} is")
