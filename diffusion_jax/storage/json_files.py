"""Read and write the JSON files of runs, exports, samples, results and data sets.

What a file must hold is declared in `diffusion_jax.storage.schemas`. Whatever is wrong with it
becomes one line with its name, the fault and what to do.
"""

import json
import math
from pathlib import Path
from typing import Any

from diffusion_jax.errors import UserError, shown
from diffusion_jax.storage.files import write_atomically
from diffusion_jax.storage.schemas import Schema, fault
from diffusion_jax.storage.untrusted import read_regular

_LARGEST = 2**28  # bytes; the manifest of a million shards has fewer


def read_json(path: Path, schema: Schema) -> Any:
    """Return the content of a file.

    Raises:
      UserError: if there is no such file, it cannot be read, it is no JSON, or it does not hold
        what its schema says.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: {schema.advice}")
    return parse_json(read_regular(path, _LARGEST), path, schema)


def parse_json(text: bytes | str, where: Path | str, schema: Schema) -> Any:
    """Return the content of JSON that was read from `where`. It raises as `read_json` does."""
    try:
        content = json.loads(  # as the standard has it: Python takes more
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_object,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{where} is damaged ({reason}): {schema.advice}") from error
    if found := fault(content, schema.shape):
        raise UserError(f"{where} is damaged ({found}): {schema.advice}")
    return content


def read_json_lines(path: Path, schema: Schema) -> list[Any]:
    """Return the lines of a file that is appended to; none where there is no file.

    An end that a kill left incomplete, or a power loss as zero bytes, is left out.

    Raises:
      UserError: as `read_json`, naming the number of the line.
    """
    if not path.exists():
        return []
    lines = read_regular(path, _LARGEST).split(b"\n")[:-1]
    while lines and b"\0" in lines[-1]:
        lines.pop()
    return [
        parse_json(line, f"{path}, line {number},", schema)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def write_json(path: Path, content: Any) -> None:
    """Write a file, whole or not at all.

    Raises:
      WriteError: if it cannot be written.
      UserError: for a number that is not finite, which no reader would take.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise UserError(f"{path} is not written: {error}") from error
    write_atomically(path, lambda partial: partial.write_text(text))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{max(keys, key=keys.count)!r} is there twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 2**63:  # NumPy's arrays hold no larger ones
        raise ValueError(f"{shown(text)} has more than 64 bits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
