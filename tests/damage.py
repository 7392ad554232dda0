"""JSON files that are damaged in every way, made from what their schema says."""

import json
from collections.abc import Iterator
from typing import Any

from diffusion_jax.storage.schemas import COUNT, MEASURED, Schema

# By what each is called in a test; `b""` and the like are no JSON at all.
BROKEN = {
    "empty": b"",
    "blank": b" \n",
    "zeros": bytes(64),
    "not UTF-8": b'{"step": "\xff"}',
    "a list": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "text": b'"step"',
    "NaN": b'{"step": NaN}',
    "infinite": b'{"step": 1e999}',
    "twice": b'{"step": 1, "step": 1}',
    "nested": b"[" * 100_000,
    "long number": b'{"step": ' + b"1" * 5000 + b"}",
    "more": b"{} {}",
}


def example(shape: Any) -> Any:
    """The smallest value of a shape, with all that may be missing."""
    if isinstance(shape, tuple):
        return example(shape[0])
    if isinstance(shape, list):
        return [example(shape[0])]
    if isinstance(shape, dict):
        named = {key.rstrip("?"): example(v) for key, v in shape.items() if key is not str}
        return named | ({"name": example(shape[str])} if str in shape else {})
    return {None: None, str: "x", bool: True, float: 0.5, int: -1, COUNT: 3, MEASURED: 0.5}[shape]


def damaged(schema: Schema) -> Iterator[tuple[str, bytes]]:
    """(what was done, the bytes) of every damage to an example of a schema."""
    whole = json.dumps(example(schema.shape)).encode()
    yield from BROKEN.items()
    for end in {1, len(whole) // 2, len(whole) - 1} & set(range(1, len(whole))):
        yield f"cut after {end} bytes", whole[:end]
    for words, value in _changed(example(schema.shape), schema.shape):
        yield words, json.dumps(value).encode()


def _changed(value: Any, shape: Any) -> Iterator[tuple[str, Any]]:
    """The value with one thing in it that is missing, or of another type."""
    if isinstance(shape, list):
        for words, inner in _changed(value[0], shape[0]):
            yield words, [inner]
    if isinstance(shape, tuple):
        yield "of no type", {"another": ["type"]} if dict not in map(type, shape) else 3
    elif not isinstance(shape, dict):
        yield f"not {shape}", {} if isinstance(shape, list) else []
    else:
        yield "no object", [value]
        for key, inner in shape.items():
            name = "name" if key is str else key.rstrip("?")
            if key is not str and not key.endswith("?"):
                yield f"no {name}", {k: v for k, v in value.items() if k != name}
            for words, other in _changed(value[name], inner):
                yield f"{name}: {words}", value | {name: other}
