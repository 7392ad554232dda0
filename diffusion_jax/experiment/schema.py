"""The schema of a config: which sections and fields it has, all read from dataclasses.

A section of a config is one dataclass, and `model` the attributes of the network's class. They are
the only place where a field is named, typed, given its default and range, and documented; what a
new config holds, what an old one lacks, what is checked, and what --help prints is read from there.

The default of a new field must do what was done without it: runs and exports from before get it
when their config is read.
"""

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import RequiredValueError

from diffusion_jax.data.sources import DataConfig
from diffusion_jax.diffusion.objectives import Objective
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.experiment import sections
from diffusion_jax.experiment.networks import find_network
from diffusion_jax.fields import Choice, Rule, meanings, rule_of
from diffusion_jax.geometry import Images, Video
from diffusion_jax.sampling.samplers import Sampling
from diffusion_jax.training.optimizers import OptimizerConfig

DTYPES = ("float32", "bfloat16")
GEOMETRIES = {"images": Images, "video": Video}

# Every section but `model`, by its name in a config; '' is for the fields outside all sections.
SECTIONS = {
    "": sections.RunConfig,
    "data": DataConfig,
    "objective": Objective,
    "optimizer": OptimizerConfig,
    "train": sections.TrainConfig,
    "sampling": Sampling,
    "evaluation": sections.EvaluationConfig,
    "autoencoder": sections.AutoencoderConfig,
    "posthoc_ema": sections.PosthocEmaConfig,
    "mesh": sections.MeshConfig,
}

# A schedule is an object in two of these classes, and in a config a section of its own, with this
# name by default.
_SCHEDULES = {"objective": "linear", "sampling": "cosine_simple"}
# Values that JSON can hold, and no default at all; other attributes are set by programs alone.
_PLAIN = bool | int | float | str | tuple | type(dataclasses.MISSING)
_FLAX = ("parent", "name")  # attributes that every Flax module has


class Field(NamedTuple):
    """One field of a config.

    Attributes:
      name: with its sections, as 'train.steps'.
      default: `dataclasses.MISSING` if there is none.
      rule: what it may hold, None if that is not checked.
      meaning: its documentation, '' for none.
    """

    name: str
    default: Any
    rule: Rule | None
    meaning: str


def fields_of(kind: type, section: str) -> Iterator[Field]:
    """Yield the fields that a class declares for a section of a config."""
    said = meanings(kind)
    for field in dataclasses.fields(kind):
        name = f"{section}.{field.name}" if section else field.name
        if field.name == "schedule":
            for part in fields_of(sections.ScheduleConfig, name):
                is_name = part.name == f"{name}.name"
                yield part._replace(default=_SCHEDULES[section]) if is_name else part
        elif field.name == "dtype":  # an object in the class, and its name in a config
            default: Any = field.default
            yield Field(name, jnp.dtype(default).name, Choice(DTYPES), said.get(field.name, ""))
        elif field.metadata.get("in_config", True) and isinstance(field.default, _PLAIN):
            yield Field(name, field.default, rule_of(field), said.get(field.name, ""))


def shared_fields() -> list[Field]:
    """Return the fields of every section but `model`."""
    return [field for name, kind in SECTIONS.items() for field in fields_of(kind, name)]


def network_fields(name: str) -> list[Field]:
    """Return the fields of the `model` section of a network, but for its name and geometry.

    Raises:
      UserError: for a name of no network.
    """
    declared = fields_of(find_network(name).denoiser, "model")
    left_out = {f"model.{name}" for name in (*_FLAX, "geometry")}
    return [field for field in declared if field.name not in left_out]


def default_config(model: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """Return a config of all defaults around a `model` section.

    It is locked: every field can be changed, none added.

    Args:
      model: the network's name, its geometry, and the fields that differ from its defaults. Without
        a name the section is taken as it is.

    Raises:
      UserError: for a name of no network.
    """
    fields = shared_fields() + (network_fields(model["name"]) if "name" in model else [])
    tree: dict[str, Any] = {"model": {}}
    for field in fields:
        *parents, name = field.name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        if field.default is not dataclasses.MISSING:
            place[name] = field.default
    tree["model"] |= dict(model)
    return ConfigDict(tree).lock()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested sections by their full names, as {'train.steps': 100}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def flat_config(config: ConfigDict) -> dict[str, Any]:
    """Return the values of a config by their full names, as they are in its JSON."""
    return flatten(json.loads(config.to_json()))


def check_complete(config: object) -> None:
    """Check that a config has every section and field that it needs, and no others.

    The fields of the network are checked when it is built; what a config leaves out of them has the
    default of its class. A schedule needs its name, and of its parameters those that it uses.

    Raises:
      UserError: for anything that is not a ConfigDict, or naming the first field that is missing,
        left open, or unknown.
    """
    if not isinstance(config, ConfigDict) or isinstance(config, FrozenConfigDict):
        kind = type(config).__name__
        raise UserError(f"--config gives a {kind}: return a ConfigDict, as configs.base.base makes")
    try:
        found = flatten(config.to_dict())
    except RequiredValueError as error:
        raise UserError(
            "--config leaves a required field open: give it, as --config.SECTION.FIELD=VALUE"
        ) from error
    known = {field.name for field in shared_fields()}
    optional = {name for name in known if ".schedule." in name and not name.endswith(".name")}
    needed = (*sorted(known - optional), "model.name", "model.geometry.kind")
    if missing := [name for name in needed if name not in found]:
        raise UserError(
            f"--config gives a config without {missing[0]}: make it with configs.base.base"
        )
    if unknown := [name for name in found if name not in known and name.split(".")[0] != "model"]:
        raise UserError(
            f"--config gives a config with {unknown[0]}, which is no field: leave it out"
        )


def describe_fields(config: ConfigDict) -> str:
    """List every field of a config with its value, range, default and meaning, as --help prints it.

    Raises:
      UserError: for a network or geometry that is not known.
    """
    check_complete(config)
    values = flatten(config.to_dict())
    check_choice("model.geometry.kind", values["model.geometry.kind"], GEOMETRIES)
    geometry = fields_of(GEOMETRIES[values["model.geometry.kind"]], "model.geometry")
    lines = []
    for field in [*shared_fields(), *network_fields(config.model.name), *geometry]:
        value = values.get(field.name, field.default)
        facts = [str(field.rule)] if field.rule else []
        if field.default not in (value, dataclasses.MISSING):
            facts.append(f"default {field.default}")
        lines.append(f"--config.{field.name}={value}" + f"  ({'; '.join(facts)})" * bool(facts))
        lines += textwrap.wrap(field.meaning, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
