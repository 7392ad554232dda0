"""What each field of a config, and each option of a command, may hold.

A field declares its rule beside its default,

    learning_rate: float = number(1e-3, at_least=0)

and `Checked` enforces the rules of all fields when the object is made, so that a new field is
checked without anyone having to remember it. `str(rule)` describes a rule in the --help of a
command. Rules need no JAX: worker processes import them.
"""

import dataclasses
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from diffusion_jax.errors import UserError, check_choice, nearest, shown
from diffusion_jax.storage.untrusted import LONGEST_NAME

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST = 2**31 - 1  # sizes and steps are int32 on a device
LARGEST_SEED = 2**32 - 1  # JAX's keys keep 32 bits of a seed: larger ones would repeat smaller ones

# Devices compute in float32, where larger numbers are infinite and smaller ones 0.
SMALLEST_FLOAT, LARGEST_FLOAT = 1e-37, 1e38

Rule = Callable[[str, Any], Any]
T = TypeVar("T", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class Number:
    """The rule of a number: finite, in float32 too, and within bounds.

    Attributes:
      integral: whether it must be an integer.
      at_least, above, at_most, below: bounds; None where there is none.
      meaning: what an error says of a number out of bounds, instead of the bound.
    """

    integral: bool = False
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    meaning: str = ""

    def __call__(self, name: str, value: Any) -> int | float:
        """Return `value` as an int or a float.

        Raises:
          UserError: unless it follows the rule.
        """
        kind: Any = numbers.Integral if self.integral else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            noun = "an integer" if self.integral else "a number"
            raise UserError(f"{name} is {shown(value)}: it must be {noun}")
        if not self.integral and not math.isfinite(value):
            raise UserError(f"{name} is {value}: it must be a finite number")
        if not self.integral and value and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
            raise UserError(
                f"{name} is {shown(value)}: it must be 0, or of a size from {SMALLEST_FLOAT:g} to "
                f"{LARGEST_FLOAT:g}, as float32 holds it"
            )
        bounds = (
            ("at least", self.at_least, lambda bound: value >= bound),
            ("above", self.above, lambda bound: value > bound),
            ("at most", self.at_most, lambda bound: value <= bound),
            ("below", self.below, lambda bound: value < bound),
        )
        for words, bound, holds in bounds:
            if bound is not None and not holds(bound):
                wanted = self.meaning or f"it must be {words} {bound}"
                raise UserError(f"{name} is {shown(value)}: {wanted}")
        return int(value) if self.integral else float(value)

    def __str__(self) -> str:
        bounds = {
            "at least": self.at_least,
            "above": self.above,
            "at most": None if self.at_most == LARGEST else self.at_most,
            "below": self.below,
        }
        given = [f"{words} {bound}" for words, bound in bounds.items() if bound is not None]
        return ", ".join(["integer" if self.integral else "number", *given])


@dataclasses.dataclass(frozen=True)
class Choice:
    """The rule of a name: one of the options."""

    options: Collection[str]  # a registry that may grow, or a tuple

    def __call__(self, name: str, value: Any) -> str:
        """Return `value`. Raises `UserError` with the nearest option unless it is one."""
        check_choice(name, value, self.options)
        return value

    def __str__(self) -> str:
        return f"one of {', '.join(self.options)}"


@dataclasses.dataclass(frozen=True)
class Location:
    """The rule of a file or folder: a local path, in which a leading ~ is expanded.

    Attributes:
      may_be_empty: whether '' is allowed, which stands for no file.
      kind: 'file' or 'folder', if what is there must be one; there may be nothing yet.
    """

    may_be_empty: bool = False
    kind: str | None = None

    def __call__(self, name: str, value: Any) -> str:
        """Return the path as text.

        Raises:
          UserError: for an empty path, one that names a bucket or can name nothing, or one of the
            other kind.
        """
        if not isinstance(value, str | os.PathLike):
            raise UserError(f"{name} is {shown(value)}: it must be a path")
        text = os.fspath(value)
        if not text.strip() and (text or not self.may_be_empty):
            raise UserError(f"{name} is empty: give a path")
        if any(ord(character) < 32 for character in text):
            raise UserError(f"{name} is {shown(text)}: give a path without control characters")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in text.split(os.sep)):
            raise UserError(f"{name} is {shown(text)}: no file has a name of so many bytes")
        if "://" in text:
            raise UserError(
                f"{name} is {shown(text)}: only local paths can be used; mount the bucket, or copy "
                "what you need"
            )
        path = os.path.expanduser(text)
        if path.startswith("~"):
            raise UserError(f"{name} is {shown(text)}: there is no such user; write ./{text}")
        if self.kind == "folder" and os.path.exists(path) and not os.path.isdir(path):
            raise UserError(f"{name} is {shown(text)}, which is a file: give a folder")
        if self.kind == "file" and os.path.isdir(path):
            raise UserError(f"{name} is {shown(text)}, which is a folder: give a file")
        return path

    def __str__(self) -> str:
        return f"path of a {self.kind}" if self.kind else "path"


@dataclasses.dataclass(frozen=True)
class Each:
    """The rule of a sequence: `rule` for every element, and at least `fewest` of them."""

    rule: Rule
    fewest: int = 0

    def __call__(self, name: str, value: Any) -> tuple:
        """Return a tuple of the elements. Raises `UserError` unless all follow the rule."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UserError(f"{name} is {shown(value)}: it must be a list, as (1, 2)")
        if len(value) < self.fewest:
            raise UserError(f"{name} is {shown(value)}: give at least {self.fewest}")
        try:
            return tuple(self.rule("an element", element) for element in value)
        except UserError as error:
            raise UserError(f"{name} is {shown(value)}: {error}") from error

    def __str__(self) -> str:
        return f"list, each element {self.rule}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """The rule of a field whose type says all there is to say of it."""

    kind: type

    def __call__(self, name: str, value: Any) -> Any:
        """Return `value`. Raises `UserError` if it has another type."""
        if not isinstance(value, self.kind):
            raise UserError(f"{name} is {shown(value)}: it must be a {self.kind.__name__}")
        return value

    def __str__(self) -> str:
        return {bool: "True or False", str: "text"}.get(self.kind, self.kind.__name__)


_BY_TYPE: dict[Any, Rule] = {bool: Kind(bool), str: Kind(str)}

COUNT = Number(integral=True, at_least=1, at_most=LARGEST)
COUNT_OR_ZERO = Number(integral=True, at_least=0, at_most=LARGEST)
SEED = Number(integral=True, at_least=0, at_most=LARGEST_SEED)
RATE = Number(at_least=0, at_most=1, meaning="it is a rate, between 0 and 1")


def ruled(rule: Rule, default: Any = dataclasses.MISSING, *, in_config: bool = True) -> Any:
    """Declare a dataclass field that follows `rule`.

    Args:
      in_config: False for a field that programs set and configs do not have.
    """
    return dataclasses.field(default=default, metadata={"rule": rule, "in_config": in_config})


def count(
    default: Any = dataclasses.MISSING,
    *,
    at_least: int = 1,
    at_most: int = LARGEST,
    in_config: bool = True,
) -> Any:
    """Declare an integer field, from `at_least` to `at_most`, by default the largest int32."""
    rule = Number(integral=True, at_least=at_least, at_most=at_most)
    return ruled(rule, default, in_config=in_config)


def number(default: Any = dataclasses.MISSING, **bounds: Any) -> Any:
    """Declare a field that is a finite number within the bounds of `Number`."""
    return ruled(Number(**bounds), default)


def rate(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that is a probability."""
    return ruled(RATE, default)


def choice(options: Iterable[str], default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that is one of `options`."""
    return ruled(Choice(tuple(options)), default)


def rule_of(field: dataclasses.Field) -> Rule | None:
    """Return the rule of a field: the declared one, or that of its type; None if it has none."""
    return field.metadata.get("rule", _BY_TYPE.get(field.type))


_ATTRIBUTE = re.compile(r"^  (\w+(?:, \w+)*): (.*(?:\n    .*)*)", re.MULTILINE)


def meanings(kind: type) -> dict[str, str]:
    """Return what the `Attributes` section of a class's docstring says about each field.

    The docstring is the one place where fields are documented: the API pages show it, and --help
    prints this.
    """
    section = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
    return {
        name: " ".join(text.split())
        for names, text in _ATTRIBUTE.findall(section)
        for name in names.split(", ")
    }


def check(checked: Any) -> None:
    """Apply the rules of all fields to a dataclass instance, frozen or not.

    Raises:
      UserError: for the first field that breaks its rule.
    """
    for field in dataclasses.fields(checked):
        if rule := rule_of(field):
            value = rule(field.name, getattr(checked, field.name))
            object.__setattr__(checked, field.name, value)


class Checked:
    """A base for dataclasses whose fields follow their rules from construction on.

    Raises:
      UserError: on construction, for the first field that breaks its rule.
    """

    def __post_init__(self):
        check(self)


def make(kind: type[T], values: Mapping[str, Any], section: str) -> T:
    """Make a dataclass from a section of a config, with errors that name `section`.field.

    Raises:
      UserError: for a field that is unknown, missing, or breaks its rule.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name in values:
        if name not in fields:
            raise UserError(f"{section}.{name} is no field: {nearest(name, fields)}")
    for name, field in fields.items():
        if name in values:
            if rule := rule_of(field):
                rule(f"{section}.{name}", values[name])
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{section}.{name} is missing: set it")
    return kind(**values)
