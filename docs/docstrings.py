"""How the API pages read our docstrings and classes: an extension of griffe."""

import re
from typing import Any

import griffe

SHARED = re.compile(r"^  (\*?\w+(?:, \*?\w+)+): (.*(?:\n    .*)*)", re.MULTILINE)
GENERATED = ("nn.Module", "NamedTuple")  # classes with a constructor that nobody wrote


class Docstrings(griffe.Extension):
    """Gives names that share a line of 'Args' or 'Attributes' one each, and classes signatures."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Splits 'a, b: text' of a docstring."""
        if obj.docstring:
            obj.docstring.value = SHARED.sub(_apart, obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Adds the constructor of a network or a named tuple, from its fields."""
        if not any(str(base) in GENERATED for base in cls.bases):
            return
        kind = griffe.ParameterKind.positional_or_keyword
        fields = [
            griffe.Parameter(name, annotation=field.annotation, kind=kind, default=field.value)
            for name, field in cls.attributes.items()
            if "property" not in field.labels and field.annotation
        ]
        init = griffe.Function("__init__", parameters=griffe.Parameters(*fields), parent=cls)
        cls.set_member("__init__", init)


def _apart(line: re.Match) -> str:
    names, text = line.groups()
    return "\n".join(f"  {name}: {text}" for name in names.split(", "))
