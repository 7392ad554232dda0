"""The registry of networks: from `model.name` to what a network declares about itself.

A network NAME is the top-level module or package NAME_jax, which declares itself in the attribute
NETWORK. `rin` is found in rin_jax, `diffussm` in diffussm_jax, and one of your own called `toy` in
a file toy_jax.py wherever Python looks for modules. Nothing has to be registered anywhere else.
"""

import dataclasses
import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from diffusion_jax.errors import UserError, nearest, shown

_SUFFIX = "_jax"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # a plain identifier: no dots, no paths


@dataclasses.dataclass(frozen=True)
class Network:
    """What a network declares about itself.

    Modules are given by name and imported only when they are needed: figures bring matplotlib.

    Attributes:
      denoiser: the Flax class. Its attributes are the fields of the `model` section, with their
        defaults, ranges and documentation; a boolean attribute `learned_variance` says whether the
        output has learned-variance channels.
      figures: 'module:Class' of the subclass of `diffusion_jax.experiment.inside.Watched` that
        draws what the network does; '' if there is none.
      official: module that reads and writes weights of the authors' code, with the functions
        `params_from_official(tensors, denoiser)` and `params_to_official(params, denoiser)`; '' if
        there is no official code.
      needs_timesteps: whether the network is conditioned on the timesteps of a discrete schedule,
        and so cannot be trained with a continuous one.
      computed_by: attributes that choose how the output is computed, and change it by rounding
        alone: a run may change them when it continues.
      regularised_by: attributes that act in training alone: a run that starts from exported weights
        may have others.
    """

    denoiser: type
    figures: str = ""
    official: str = ""
    needs_timesteps: bool = False
    computed_by: tuple[str, ...] = ("remat", "unroll")
    regularised_by: tuple[str, ...] = ()

    def load_figures(self) -> Any:
        """Import the class that draws this network; None if there is none."""
        return pkgutil.resolve_name(self.figures) if self.figures else None

    def load_official(self) -> Any:
        """Import the module that reads and writes official weights.

        Raises:
          UserError: if the network declares none.
        """
        if not self.official:
            raise UserError(
                f"there is no official code of {self.denoiser.__name__}: its weights have one "
                "layout, ours"
            )
        return importlib.import_module(self.official)


def find_network(name: str) -> Network:
    """Return what the network of this name declares.

    The name may come from a config.json that somebody else wrote. It can only select a top-level
    module called NAME_jax that Python would find anyway: the pattern allows neither dots nor
    slashes, so no file outside the import path can be reached, and whoever can put a file onto the
    path could as well name it after any module that we import.

    Raises:
      UserError: for a name of no network, with those that are near.
    """
    module = f"{name}{_SUFFIX}"
    if isinstance(name, str) and _NAME.fullmatch(name) and importlib.util.find_spec(module):
        declared = getattr(importlib.import_module(module), "NETWORK", None)
        if isinstance(declared, Network):
            return declared
    raise UserError(
        f"model.name is {shown(name)}: {nearest(str(name), _known())} (a network NAME is "
        f"declared in NAME{_SUFFIX}.py: run the command in its folder, or name that in PYTHONPATH)"
    )


def _known() -> list[str]:
    """Return the names of all modules on the path that may declare a network."""
    ours = Path(__file__).parents[2]  # an editable install is found by a hook, and not on the path
    found = {module.name for module in pkgutil.iter_modules([*sys.path, str(ours)])}
    names = {name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)}
    return sorted(names - {"diffusion"})  # diffusion_jax, the package that this module is in
